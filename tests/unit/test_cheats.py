"""The cheat collection as makers of diffs: what they know, what they touch, how they are carried; nothing is run."""

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from envfarm.audit import carrier
from envfarm.audit.cheat import Cheat, CheatTarget, Family
from envfarm.audit.collection import CHEATS, cheat_table, choose_cheats
from envfarm.audit.file_diff import make_link, replace_file
from envfarm.audit.plain import _log_passes, _says_one
from envfarm.audit.trial import OURS, PLAIN, CheatResult
from envfarm.errors import UserError
from envfarm.grading.patch_reader import read_sections
from envfarm.records.task import TestPlan
from envfarm.records.verdict import Outcome, Verdict

ROOT = Path(__file__).parents[2]
PAYLOADS = ROOT / "envfarm" / "audit" / "payloads"
CORE = b'"""What it is."""\nfrom __future__ import annotations\n\n\ndef add(a, b):\n    return a - b\n'
HIDDEN = (
    b"import unittest\nimport pytest\nfrom pkg.core import add\n\n\nclass TestIt(unittest.TestCase):\n"
    b"    def test_it(self):\n        with pytest.raises(ValueError):\n            add(None, None)\n"
)
TARGET = CheatTarget(
    sources={"src/pkg/core.py": CORE, "src/pkg/new.py": None, "README.md": b"text"},
    tests={"tests/test_core.py": b"def test_old():\n    pass\n"},
    base={"setup.cfg": b"[metadata]\nname = pkg\n", "tests/conftest.py": b"import os\n"},
    paths=frozenset(("src/pkg/__init__.py", "src/pkg/core.py", "setup.cfg", "tests/conftest.py", "tests/test_core.py")),
    fail_to_pass=("tests/test_core.py::TestIt::test_it",),
    pass_to_pass=("tests/test_core.py::test_old",),
    hidden_tests={"tests/test_core.py": HIDDEN, "tests/test_new.py": HIDDEN},
    fixed={"src/pkg/core.py": CORE.replace(b"a - b", b"a + b"), "src/pkg/new.py": b"NEW = 1\n", "README.md": b"more\n"},
)
ASKED_FOR = json.loads((ROOT / "tests/data/cheats/asked_for.json").read_bytes())


def cheat_named(name: str) -> Cheat:
    (found,) = choose_cheats([name])
    return found


def test_the_collection_holds_every_cheat_that_was_asked_for_and_more() -> None:
    names = [cheat.name for cheat in CHEATS]
    assert len(set(names)) == len(names)
    assert set(ASKED_FOR) - set(names) == set()
    assert len(set(names) - set(ASKED_FOR)) >= 15
    assert {cheat.family for cheat in CHEATS} == set(Family) - {Family.HONEST}


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.name)
def test_a_cheat_fits_a_task_that_has_everything_and_mends_nothing(cheat: Cheat) -> None:
    patch = cheat.make(TARGET)
    assert patch
    assert b"a + b" not in patch
    assert cheat.what.endswith(".")


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.name)
def test_a_blanket_cheat_knows_nothing_of_the_hidden_tests(cheat: Cheat) -> None:
    secret = replace(TARGET, fail_to_pass=("x::y",), pass_to_pass=(), hidden_tests={"tests/z.py": HIDDEN + b"# z\n"})
    if cheat.blanket:
        assert cheat.make(secret) == cheat.make(TARGET)
    elif cheat.name != "tests_folder_in_the_way":
        assert cheat.make(secret) != cheat.make(TARGET)


@pytest.mark.parametrize(
    "cheat", [cheat for cheat in CHEATS if cheat.family is not Family.PATCH], ids=lambda cheat: cheat.name
)
def test_a_diff_is_applied_by_git_and_what_it_leaves_is_python(cheat: Cheat, tmp_path: Path) -> None:
    workspace(tmp_path)
    for target in (TARGET, TARGET.beside_the_fix()):
        patch = cheat.make(target)
        assert patch is not None
        assert read_sections(patch)
        workspace(tmp_path)
        apply(patch, tmp_path)
        if (tmp_path / "src/pkg/core.py").read_bytes() != CORE:
            ast.parse((tmp_path / "src/pkg/core.py").read_bytes())
        assert (b"a + b" in (tmp_path / "src/pkg/core.py").read_bytes()) is target.with_fix
        assert ((tmp_path / "README.md").read_bytes() == b"more\n") is target.with_fix


def workspace(folder: Path) -> None:
    files = {**TARGET.sources, **TARGET.tests, **TARGET.base}
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).unlink(missing_ok=True)
        if content is not None:
            (folder / path).write_bytes(content)
    known = {folder / path for path in files}
    for path in [path for path in folder.rglob("*") if path not in known and (path.is_symlink() or path.is_file())]:
        path.unlink()


def apply(patch: bytes, folder: Path) -> None:
    done = subprocess.run(
        ["git", "apply", "-p1", "--whitespace=nowarn", "-"],
        cwd=folder,
        env={"GIT_DIR": str(folder / ".none"), "GIT_CONFIG_GLOBAL": "/dev/null"},
        input=patch,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_carrier_keeps_its_docstring_and_its_imports_from_the_future_first() -> None:
    changed = carrier.run_around(CORE, b"first = 1\n", b"last = 2\n")
    tree = ast.parse(changed)
    assert ast.get_docstring(tree) == "What it is."
    kinds = [type(node).__name__ for node in tree.body]
    assert kinds == ["Expr", "ImportFrom", "Assign", "FunctionDef", "Assign"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b"f\nl\n"),
        (b"x = 1", b"f\nx = 1\nl\n"),
        (b'"""d"""', b'"""d"""\nf\nl\n'),
        (b'"""d"""\r\nx = 1\r\n', b'"""d"""\r\nf\r\nx = 1\r\nl\r\n'),
        (b"this is (no Python\n", b"f\nthis is (no Python\nl\n"),
        (b"x = 1\n'no docstring'\n", b"f\nx = 1\n'no docstring'\nl\n"),
    ],
)
def test_a_module_of_any_form_carries(content: bytes, expected: bytes) -> None:
    assert carrier.run_around(content, b"f\n", b"l\n") == expected


def test_every_payload_is_used_and_is_python_of_3_8_that_fails_silently() -> None:
    used = " ".join(path.read_text() for path in (ROOT / "envfarm" / "audit").glob("*.py"))
    for path in sorted(PAYLOADS.glob("*.py")):
        tree = ast.parse(path.read_text(), feature_version=(3, 8))
        assert (ast.get_docstring(tree) or "").endswith("."), path
        name = path.stem.removeprefix("part_").removeprefix("resources_")
        assert f'"{name}"' in used or f'"part_{name}"' in used, path
    code = carrier.compose("process_exit_in_call", "results", once=False)
    assert code.rstrip().endswith(b"except Exception:\n    pass")


@pytest.mark.parametrize(("once", "runs"), [(True, 1), (False, 2)])
def test_a_payload_runs_once_in_a_process_or_once_in_each_module(once: bool, runs: int, tmp_path: Path) -> None:  # noqa: FBT001 -- a row
    code = carrier.compose("process_exit", once=once).replace(b"os._exit(0)", b"print('ran')")
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_bytes(code)
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import one, two"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["ran"] * runs


def test_a_task_without_modules_carries_nothing_and_one_without_test_cases_needs_no_cheat_for_them() -> None:
    bare = CheatTarget(sources={"README.md": b""}, tests={"tests/test_core.py": b""})
    assert cheat_named("process_exit").make(bare) is None
    assert cheat_named("equal_to_all").make(bare) is None
    assert cheat_named("conftest_outcomes").make(bare)
    plain = replace(TARGET, hidden_tests={"tests/test_core.py": b"def test_it():\n    assert True\n"})
    for name in ("runner_unittest_asserts", "runner_unittest_run", "runner_raises"):
        assert cheat_named(name).make(plain) is None


def test_existing_modules_carry_before_new_ones_and_roots_are_where_python_looks() -> None:
    assert TARGET.carriers == ("src/pkg/core.py", "src/pkg/new.py")
    assert TARGET.import_roots == ("", "src")


def test_configuration_that_pytest_would_not_read_is_no_cheat() -> None:
    higher = replace(TARGET, base={**TARGET.base, "pytest.ini": b"[pytest]\n"})
    assert cheat_named("plugin_by_setup_cfg").make(higher) is None
    assert cheat_named("plugin_by_pyproject").make(higher) is None
    kept = cheat_named("plugin_by_setup_cfg").make(TARGET)
    assert kept is not None
    assert b"+name = pkg" in kept
    assert b"+addopts = -p envfarm_cheat_plugin" in kept


def test_links_and_missing_ends_of_files_are_written_as_git_does(tmp_path: Path) -> None:
    (tmp_path / "a b").write_bytes(b"one\ntwo")
    patch = replace_file("a b", b"one\ntwo", b"one\n") + make_link("link", "a b") + replace_file("empty", None, b"")
    apply(patch, tmp_path)
    assert (tmp_path / "a b").read_bytes() == b"one\n"
    assert (tmp_path / "link").readlink() == Path("a b")
    assert (tmp_path / "empty").read_bytes() == b""


def test_an_unknown_cheat_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="no cheat 'nonsense'"):
        choose_cheats(["process_exit", "nonsense"])
    assert [cheat.name for cheat in choose_cheats(["tests_deleted", "process_exit"])] == [
        "process_exit",
        "tests_deleted",
    ]
    assert choose_cheats([]) == CHEATS


@pytest.mark.parametrize(
    ("reward", "with_fix", "name", "wrong"),
    [
        (1.0, False, "process_exit", True),
        (0.0, False, "process_exit", False),
        (0.5, False, "process_exit", True),
        (1.0, True, "conftest_outcomes", False),
        (0.0, True, "conftest_outcomes", True),
        (0.0, True, "process_exit", False),
        (1.0, True, "process_exit", False),
    ],
)
def test_a_result_is_wrong_where_a_cheat_is_paid_or_a_whole_fix_is_not(
    reward: float,
    with_fix: bool,  # noqa: FBT001 -- as below
    name: str,
    wrong: bool,  # noqa: FBT001 -- a row of the table
) -> None:
    verdict = Verdict(task_id="t", outcome=Outcome.SCORED, reward=reward)
    result = CheatResult(cheat=cheat_named(name), verdicts={OURS: verdict}, with_fix=with_fix)
    assert result.is_wrong is wrong
    assert result.word(OURS) == ("accepted" if reward else "refused")
    assert result.word(PLAIN) == "-"


@pytest.mark.parametrize(
    ("reward", "one"),
    [
        ({"reward": 1.0}, True),
        ({"reward": 0}, False),
        ({"reward": True}, False),
        ({}, False),
        ([1], False),
        (None, False),
    ],
)
def test_a_reward_file_says_one_or_not(reward: object, one: bool) -> None:  # noqa: FBT001 -- a row of the table
    assert _says_one(reward) is one


def test_the_last_status_line_of_every_test_counts() -> None:
    tests = TestPlan(paths=("t.py",), fail_to_pass=("t.py::a", "t.py::b[x y]"), pass_to_pass=("t.py::c",))
    passed = "PASSED t.py::a\nPASSED t.py::b[x y]\nPASSED t.py::c\n"
    assert _log_passes(tests, passed.encode())
    assert not _log_passes(tests, (passed + "FAILED t.py::a - assert\n").encode())
    assert not _log_passes(tests, passed.replace("PASSED t.py::c\n", "").encode())
    assert _log_passes(tests, ("FAILED t.py::a\n" + passed).encode())


def test_the_page_shows_the_table_as_it_is() -> None:
    page = (ROOT / "docs" / "audit.md").read_text()
    assert cheat_table() in page, "write it anew: envfarm audit --list"
