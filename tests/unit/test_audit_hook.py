"""Whose a file is, what may be written, and what submitted code imports: the hook's decisions by tables."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import envfarm_verifiers
from envfarm.images.interpreters import find_interpreters

PROGRAMS = Path(str(envfarm_verifiers.__file__)).parent / "box_programs"


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit_hook_under_test", PROGRAMS / "audit_hook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(PROGRAMS))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(PROGRAMS))
    return module


TEMPORARY = "/tmp"  # noqa: S108 -- inside a box
OWNERS = {
    "/workspace/src/tiny/__init__.py": "SUBMITTED",
    "src/tiny/__init__.py": "SUBMITTED",
    "/workspace/tests/../src/a.py": "SUBMITTED",
    "/workspace/tests/test_a.py": "TEST",
    "tests/test_a.py": "TEST",
    "/workspace/src/../tests/test_a.py": "TEST",
    f"{TEMPORARY}/written.py": "SUBMITTED",
    "/workspacex/a.py": "SUBMITTED",
    os.__file__: "TRUSTED",
    f"{os.path.dirname(os.__file__)}/../../../../tmp/a.py": "SUBMITTED",  # noqa: PTH120 -- a text, not a path
    "<frozen importlib._bootstrap>": "TRUSTED",
    "<string>": "GENERATED",
}


@pytest.mark.parametrize("name", OWNERS)
def test_whose_a_file_is(name: str, hook: ModuleType) -> None:
    assert hook.Paths(["tests/**"]).owner_of(name) == getattr(hook, OWNERS[name])


WRITES: tuple[tuple[object, bool], ...] = (
    ("/workspace/out.txt", False),
    ("/workspace/src/a.py", False),
    ("/workspace/tests/a.txt", True),
    (b"/workspace/tests/a.txt", True),
    (Path("/workspace/tests/a.txt"), True),
    ("/workspace/src/../tests/a.txt", True),
    (f"{TEMPORARY}/a", False),
    (f"{TEMPORARY}/../etc/a", True),
    (f"/var{TEMPORARY}/a", False),
    ("/dev/null", False),
    ("/dev/nullx", True),
    ("/etc/passwd", True),
    (7, False),
    (None, False),
)


@pytest.mark.parametrize(("path", "told"), WRITES)
def test_where_writing_is_told(path: object, told: bool, hook: ModuleType) -> None:  # noqa: FBT001 -- a table
    assert (hook.Paths(["tests/**"]).forbidden(path) is not None) is told


def test_a_link_is_followed_for_writing_and_not_for_removing(hook: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    paths = hook.Paths([])
    assert paths.forbidden(str(tmp_path / "link" / "a")) == "/etc/a"
    assert paths.forbidden(str(tmp_path / "link"), follows=False) is None


SECRETS: tuple[tuple[object, bool], ...] = (
    ("/proc/self/fd", True),
    ("/proc/self/fd/7", True),
    ("/proc/1/environ", True),
    ("/proc/thread-self/maps", True),
    (f"{TEMPORARY}/../proc/self/mem", True),
    ("/dev/fd/3", True),
    ("/proc/cpuinfo", False),
    ("/proc/self/status", False),
    ("/proc/self/cgroup", False),
    ("/dev/null", False),
    ("processes/a", False),
    (3, False),
)


@pytest.mark.parametrize(("path", "told"), SECRETS)
def test_which_paths_are_a_process_s_own(path: object, told: bool, hook: ModuleType) -> None:  # noqa: FBT001 -- a table
    assert (hook._opened_secretly(path) is not None) is told


IMPORTS: tuple[tuple[str, list[str]], ...] = (
    ("import os, json", []),
    ("x.pytest = 1", []),
    ("'pytest' in sys.modules", []),
    ("import pytest", ["pytest"]),
    ("import unittest.mock as m", ["unittest.mock"]),
    ("from unittest import mock", ["unittest"]),
    ("def f():\n  def g():\n    import pluggy._hooks", ["pluggy._hooks"]),
    ("sys.modules['_pytest.runner']", ["_pytest.runner"]),
    ("class A:\n  import report_plugin", ["report_plugin"]),
    ("'_pytest is a package'", []),
)


@pytest.mark.parametrize(("code", "names"), IMPORTS)
def test_what_is_imported_of_the_runner(code: str, names: list[str], hook: ModuleType) -> None:
    found = hook.runner_imports(compile(code, "a.py", "exec"))
    assert [name for name, _ in found] == names
    assert all(line > 0 for _, line in found)


def test_the_table_names_every_finding(hook: ModuleType) -> None:
    rules = hook._make_rules(hook.Paths([]))
    kinds = {kind for kind, _, _ in rules.values() if kind} | {"runner_imported", "descriptor_opened", "report_read"}
    assert kinds == {line.split(" |")[0].lstrip("| ") for line in hook.__doc__.splitlines() if "_" in line[:24]}


def test_a_finding_is_written_once_per_place_and_at_most_200(hook: ModuleType) -> None:
    records: list[dict[str, str]] = []
    known = hook.Hook(records.append, lambda: "test_a", ["tests/**"])
    for number in range(300):
        for _ in range(2):
            known.note("signal_sent", f"a.py:{number}", "x" * 1000)
    assert [record["where"] for record in records] == [f"a.py:{number}" for number in range(200)]
    assert {(record["id"], len(record["what"])) for record in records} == {("test_a", hook.MOST_TOLD)}


LATE_IMPORTS = """
import os, sys
workspace, programs = sys.argv[1:]
os.environ["ENVFARM_WORKSPACE"] = workspace
sys.path.insert(0, programs)
import audit_hook
del sys.path[0]
audit_hook.install(lambda record: print(record["finding"], record["where"], record["what"]), str, ())
sys.path.append(workspace)
import submitted
submitted.late()
submitted.made_by_hand()
"""
SUBMITTED = """
def late():
    import colorsys, concurrent.futures, submitted_too
    return concurrent.futures.ThreadPoolExecutor

def made_by_hand():
    import os
    return late.__code__.replace(co_filename=os.__file__)
"""


def pythons() -> list[str]:
    """This interpreter, and all others here that have audit hooks."""
    others = find_interpreters().items()
    return sorted({sys.executable, *(item.executable for minor, item in others if int(minor.split(".")[1]) >= 8)})


@pytest.mark.parametrize("python", pythons())
def test_a_late_import_is_no_code_made_by_hand_in_any_version(python: str, tmp_path: Path) -> None:
    (tmp_path / "submitted.py").write_text(SUBMITTED)
    (tmp_path / "submitted_too.py").write_text("def more(): pass\n")
    words = [python, "-c", LATE_IMPORTS, str(tmp_path), str(PROGRAMS)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = [line.split()[:2] for line in done.stdout.splitlines()]
    by_hand = SUBMITTED.splitlines().index("    return late.__code__.replace(co_filename=os.__file__)") + 1
    assert found == [["code_replaced", f"submitted.py:{by_hand}"]], done.stdout
