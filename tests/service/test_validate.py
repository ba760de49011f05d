"""Validation in real boxes with a real pytest: each trap of a naive before-and-after comparison, once."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest

from envfarm.grading.workspace_diff import diff_workspace
from envfarm.images.prepare import compose_image
from envfarm.records.task import TestPlan
from envfarm.sandbox.contract import PROJECT, WORKSPACE
from envfarm.sandbox.local.provider import open_local_provider
from task_miner.languages.python import PythonLanguage
from task_miner.languages.python_code import PythonCode
from task_miner.packaging.archive import ArchiveEntry, write_archive
from task_miner.reasons import ReasonCode
from task_miner.validate import ValidateRequest, Validation, validate

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask

SOURCE = "src/lib.py"
TESTS = "tests/test_lib.py"


@dataclass(frozen=True, kw_only=True)
class Fix:
    """A base, the source after the fix, and the tests before and after."""

    before: str
    after: str
    old_tests: str | None = "from lib import *\n"
    new_tests: str
    more_tests: Mapping[str, str] = field(default_factory=dict)
    more_base: Mapping[str, str] = field(default_factory=dict)
    more_fixed: Mapping[str, str] = field(default_factory=dict)
    test_seconds: float = 20.0
    run_seconds: float = 60.0
    runs: int = 3


Validate = Callable[[Fix], Validation]


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


async def run(fix: Fix, tiny: "TinyTask", folder: Path) -> Validation:
    old = {TESTS: fix.old_tests} if fix.old_tests is not None else {}
    base = {SOURCE: fix.before, **old, **fix.more_base}
    workspace = write(folder / "base", base)
    fix_patch = await diff_workspace(workspace, write(folder / "fixed", base | {SOURCE: fix.after, **fix.more_fixed}))
    project = write(folder / "project", {"lib.pth": f"{WORKSPACE}/src\n"})
    hidden = {TESTS: fix.new_tests, **fix.more_tests}
    kept = {path: text for path, text in fix.more_base.items() if path.startswith("tests/")}
    entries = (ArchiveEntry(path, text.encode()) for path, text in (kept | hidden).items())
    own = {str(PROJECT), str(WORKSPACE)}
    mounted = tuple(found for found in tiny.image.folders if found.target not in own)
    paths = tuple(sorted(path for path in hidden if PurePosixPath(path).name.startswith("test_")))
    changed = {
        path: PythonCode().changed_tests(
            PurePosixPath(path), base[path].encode() if path in base else None, hidden[path].encode()
        )
        for path in hidden
    }
    async with open_local_provider({}) as provider:
        return await validate(
            ValidateRequest(
                provider=provider,
                image=compose_image(mounted, project=project, workspace=workspace, variables={}),
                language=PythonLanguage(provider=provider, cache_folder=folder / "cache", cache_domain="test"),
                environment=tiny.package.task.environment,
                plan=TestPlan(
                    paths=paths,
                    protected=("tests/**", "**/conftest.py"),
                    test_timeout_seconds=fix.test_seconds,
                    run_timeout_seconds=fix.run_seconds,
                ),
                old_paths=tuple(path for path in paths if path in base),
                reference_archive=write_archive(entries, modified_at=0),
                fix_patch=fix_patch,
                changed=changed,
                runs=fix.runs,
                boxes=anyio.CapacityLimiter(2),
            )
        )


@pytest.fixture
def validated(tiny_task: "TinyTask", tmp_path: Path) -> Validate:
    def of(fix: Fix) -> Validation:
        return anyio.run(run, fix, tiny_task, tmp_path)

    return of


def classes(validation: Validation) -> dict[str, str]:
    return {name.split("::", 1)[-1]: found.name for name, found in validation.classification.classes.items()}


ADD = Fix(
    before="def add(a, b):\n    return a - b\n",
    after="def add(a, b):\n    return a + b\n",
    old_tests="from lib import add\n\ndef test_zero():\n    assert add(1, 0) == 1\n",
    new_tests=(
        "from lib import add\n\ndef test_zero():\n    assert add(1, 0) == 1\n\n"
        "def test_add():\n    assert add(1, 2) == 3\n"
    ),
)


def test_a_mended_test_and_one_that_always_passed(validated: Validate) -> None:
    validation = validated(ADD)
    assert validation.classification.reason is ReasonCode.OK
    assert classes(validation) == {"test_add": "F2P", "test_zero": "P2P"}
    assert [(r.stage, r.order_seed is not None) for r in validation.runs] == [
        ("fixed_new_tests", False),
        ("base_new_tests", False),
        ("base_old_tests", False),
        ("base_new_tests", False),
        ("base_new_tests", True),
        ("fixed_new_tests", False),
        ("fixed_new_tests", True),
    ]
    assert "assert -1 == 3" in validation.messages[f"{TESTS}::test_add"]
    assert "2 passed" in validation.log


def test_tests_hidden_by_an_import_of_a_new_name_are_not_mended(validated: Validate) -> None:
    fix = Fix(
        before="def old():\n    return 1\n",
        after="def old():\n    return 1\ndef new():\n    return 2\n",
        old_tests="from lib import old\ndef test_old():\n    assert old() == 1\ndef test_two():\n    pass\n",
        new_tests=(
            "from lib import old, new\ndef test_old():\n    assert old() == 1\n"
            "def test_two():\n    assert new() == 2\ndef test_new():\n    assert new() == 2\n"
        ),
    )
    validation = validated(fix)
    assert classes(validation) == {"test_old": "P2P", "test_two": "C2P", "test_new": "C2P"}


def test_a_new_file_that_cannot_be_collected_does_not_hide_its_neighbours(validated: Validate) -> None:
    fix = replace(
        ADD,
        after=ADD.after + "def twice(a):\n    return 2 * a\n",
        more_tests={"tests/test_twice.py": "from lib import twice\ndef test_twice():\n    assert twice(2) == 4\n"},
    )
    assert classes(validated(fix)) == {"test_add": "F2P", "test_zero": "P2P", "test_twice": "C2P"}


def test_a_conftest_that_needs_the_fix_does_not_make_every_test_new(validated: Validate) -> None:
    fix = replace(
        ADD,
        after=ADD.after + "def tool():\n    return 0\n",
        more_tests={"tests/conftest.py": "from lib import tool\n"},
    )
    assert classes(validated(fix)) == {"test_add": "C2P", "test_zero": "P2P"}


def test_a_hang_on_the_base_costs_seconds_and_is_a_timeout(validated: Validate) -> None:
    fix = Fix(
        before="def wait():\n    while True:\n        pass\n",
        after="def wait():\n    return 1\n",
        new_tests="from lib import wait\ndef test_a():\n    assert wait() == 1\ndef test_b():\n    assert True\n",
        test_seconds=1.0,
    )
    assert classes(validated(fix)) == {"test_a": "T2P", "test_b": "P2P"}


def test_a_base_that_dies_in_the_middle_says_nothing_of_the_tests_after(validated: Validate) -> None:
    fix = Fix(
        before="import os\ndef go():\n    os.abort()\n",
        after="def go():\n    return 1\n",
        new_tests="from lib import go\ndef test_a():\n    assert go() == 1\ndef test_b():\n    assert True\n",
    )
    assert classes(validated(fix)) == {"test_a": "F2P", "test_b": "P2P"}


def test_ids_that_hold_an_address_are_never_required(validated: Validate) -> None:
    tests = (
        "import os, pytest\nfrom lib import add\n"
        "@pytest.mark.parametrize('x', [os.urandom(8).hex()])\ndef test_id(x):\n    assert add(1, 2) == 3\n"
    )
    validation = validated(replace(ADD, new_tests=tests))
    assert set(classes(validation).values()) == {"UNSTABLE_ID"}
    assert validation.classification.reason is ReasonCode.ONLY_UNSTABLE


def test_a_test_that_needs_its_neighbour_first_is_order_dependent(validated: Validate) -> None:
    body = "from lib import add\nSEEN = []\ndef test_add():\n    assert add(1, 2) == 3\n"
    body += "".join(
        f"def test_{n:02}():\n    SEEN.append({n})\n    assert SEEN == list(range({n + 1}))\n" for n in range(8)
    )
    found = classes(validated(replace(ADD, new_tests=body)))
    assert found.pop("test_add") == "F2P"
    assert "ORDER_DEPENDENT" in found.values()
    assert set(found.values()) <= {"ORDER_DEPENDENT", "P2P", "BROKEN"}


def test_an_outcome_that_hangs_on_the_hash_seed_is_never_required(validated: Validate) -> None:
    tests = "import os\nfrom lib import add\ndef test_add():\n    assert add(1, 2) == 3\n"
    tests += "def test_seed():\n    assert os.environ['PYTHONHASHSEED'] == '0' and add(2, 2) == 4\n"
    assert classes(validated(replace(ADD, new_tests=tests))) == {"test_add": "F2P", "test_seed": "ORDER_DEPENDENT"}


@pytest.mark.parametrize(
    ("after", "tests", "reason", "runs"),
    [
        ("def add(a, b):\n    return a * b\n", "def test_x():\n    assert False\n", ReasonCode.FIX_DOES_NOT_PASS, 1),
        ("def add(a, b):\n    return a * b\n", "import missing_module\n", ReasonCode.FIX_DOES_NOT_PASS, 1),
        ("def add(a, b):\n    return a * b\n", "def helper():\n    pass\n", ReasonCode.NOTHING_RAN, 1),
        ("import os\nos._exit(0)\n", "import lib\ndef test_x():\n    pass\n", ReasonCode.NOTHING_RAN, 1),
        ("def add(a, b):\n    return a * b\n", "def test_x():\n    pass\n", ReasonCode.NO_FAIL_TO_PASS, 2),
    ],
)
def test_a_candidate_that_is_no_task_pays_for_few_runs(
    validated: Validate, after: str, tests: str, reason: str, runs: int
) -> None:
    validation = validated(replace(ADD, after=after, new_tests=tests))
    assert (validation.classification.reason, len(validation.runs)) == (reason, runs)
    assert str(reason) in validation.log


def test_a_fixed_side_that_hangs_in_collection_is_a_run_timeout(validated: Validate) -> None:
    validation = validated(replace(ADD, new_tests="import time\ntime.sleep(100)\n", run_seconds=1.5))
    assert validation.classification.reason is ReasonCode.RUN_TIMEOUT


def test_a_fix_that_is_all_the_graders_own_is_no_task(validated: Validate) -> None:
    validation = validated(replace(ADD, after=ADD.before, new_tests=ADD.new_tests))
    assert validation.classification.reason is ReasonCode.UNSUPPORTED_CHANGE
    assert validation.runs == ()


HABITS = """
import gettext, os, subprocess, threading, time
from hypothesis import given, strategies
from lib import add

def test_add():
    assert add(1, 2) == 3

def test_zero_is_not_the_only_test():
    threading.Thread(target=time.sleep, args=(1000,)).start()
    subprocess.Popen(["sleep", "1000"])

def test_place():
    assert (time.tzname, os.environ["LC_ALL"], os.environ["COLUMNS"]) == (("UTC", "UTC"), "C.UTF-8", "80")

@given(strategies.integers(0, 3))
def test_slow_property(number):
    time.sleep(0.25)

def test_translation():
    assert gettext.translation("lib", "src/locale", ["de"]).gettext("hello") == "hallo"
"""
CATALOGUE = "src/locale/de/LC_MESSAGES/lib.po"


def test_habits_of_a_project_and_a_machine_do_not_change_what_a_run_says(tiny_task: "TinyTask", tmp_path: Path) -> None:
    """Switches of its configuration, threads and children that never end, property deadlines, translations."""
    make = sys.modules[type(tiny_task).__module__].make_environment
    folders = make(tmp_path / "venv", "hypothesis", "sortedcontainers")
    with_hypothesis = replace(tiny_task, image=msgspec.structs.replace(tiny_task.image, folders=folders))
    fix = replace(
        ADD,
        new_tests=HABITS,
        more_base={
            "pytest.ini": "[pytest]\naddopts = -x -k zero --no-such-option --collect-only\n",
            CATALOGUE: 'msgid "hello"\nmsgstr "hello"\n',
        },
        more_fixed={CATALOGUE: 'msgid "hello"\nmsgstr "hallo"\n'},
    )
    assert classes(anyio.run(run, fix, with_hypothesis, tmp_path)) == {
        "test_add": "F2P",
        "test_zero_is_not_the_only_test": "P2P",
        "test_place": "P2P",
        "test_slow_property": "P2P",
        "test_translation": "F2P",
    }


def test_a_process_that_never_exits_after_its_session_is_not_waited_for(validated: Validate) -> None:
    conftest = "import time\ndef pytest_unconfigure(config):\n    time.sleep(1000)\n"
    validation = validated(replace(ADD, more_tests={"tests/conftest.py": conftest}))
    assert classes(validation) == {"test_add": "F2P", "test_zero": "P2P"}
    assert validation.fixed_seconds < 30
    assert all(run.session_ended and not run.timed_out for run in validation.runs)


def test_mass_skips_are_an_alarm(validated: Validate) -> None:
    skipped = "\nimport pytest\n@pytest.mark.skipif(True, reason='not built')\n"
    skipped += "@pytest.mark.parametrize('n', range(9))\ndef test_s(n): pass\n"
    validation = validated(replace(ADD, new_tests=ADD.new_tests + skipped))
    assert (validation.classification.reason, len(validation.runs)) == (ReasonCode.MASS_SKIP, 1)


def test_lines_that_differ_from_run_to_run_are_not_told(validated: Validate) -> None:
    tests = "import os\nfrom lib import add\ndef test_add():\n    print(os.urandom(9).hex(), 'printed', sep='\\n')\n"
    validation = validated(replace(ADD, new_tests=tests + "    assert add(1, 2) == 3\n"))
    told = validation.messages[f"{TESTS}::test_add"].splitlines()
    assert "E   assert -1 == 3" in told
    assert [line for line in told if line.startswith("| ")] == ["| printed"]


def test_where_a_test_is_not_steady_the_fixed_side_is_run_as_often_again(validated: Validate) -> None:
    tests = "import os, pytest\n@pytest.mark.parametrize('n', range(16))\n"
    tests += "def test_luck(n):\n    assert os.urandom(1)[0] % 2\n"
    validation = validated(replace(ADD, new_tests=ADD.new_tests + tests))
    assert [run.stage for run in validation.runs].count("fixed_new_tests") == 6
    assert validation.runs[-1].order_seed is not None
    found = classes(validation)
    assert (found["test_add"], found["test_zero"]) == ("F2P", "P2P")
    assert "FLAKY" in found.values()


def test_fewer_runs_than_three_are_refused(validated: Validate) -> None:
    with pytest.raises(ValueError, match="flaky"):
        validated(replace(ADD, runs=2))
