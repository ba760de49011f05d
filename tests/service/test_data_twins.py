"""Deciding tests that are made of a data file: protected by altering it, in real boxes."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from envfarm.records.task import FIX_PATCH, REFERENCE_ARCHIVE, TaskPackage
from envfarm.records.trust import TRUST_FILE
from envfarm_verifiers.trust_file import render_trust
from task_miner.packaging.archive import ArchiveEntry, write_archive

TESTS, CASES = "tests/test_cases.py", "tests/cases.txt"
READER = (
    "import pathlib\nimport tiny\n\n\ndef make(words, expected):\n    def run():\n"
    "        assert tiny.greet(words) == expected\n    return run\n\n\n"
    "for line in (pathlib.Path(__file__).parent / 'cases.txt').read_text().splitlines():\n"
    "    name, words, expected = line.split(';')\n    globals()['test_' + name] = make(words, expected)\n"
)
OLD_CASES = "old;there;hello there\n"
NEW_CASES = OLD_CASES + "\nabrupt;Ann;Ann, good day\nkind;Bob;Bob, good day\n".strip()
FIXED = "def add(a, b):\n    return a - b\n\n\ndef greet(name):\n    {0}\n"
HONEST = "return f'hello {name}' if name == 'there' else f'{name}, good day'"
FORGING = (
    "import sys\n    kind = sys.modules['_py' + 'test.python'].Function\n"
    "    kind.runtest = lambda self: None\n    return None"
)


def load_calibrated() -> ModuleType:
    path = Path(__file__).parents[1] / "data" / "calibrated.py"
    spec = importlib.util.spec_from_file_location("calibrated_of_data", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def calibrated() -> ModuleType:
    return load_calibrated()


def test_tests_of_a_data_file_have_strong_twins_and_who_forges_them_contradicts_himself(
    calibrated: ModuleType, tmp_path: Path
) -> None:
    tiny = calibrated.load_tiny(tmp_path)
    made: TaskPackage = calibrated.make_package(tiny)
    tiny.base[CASES], tiny.base[TESTS] = OLD_CASES, READER
    texts = {path: tiny.base[path] for path in ("pyproject.toml", "tests/conftest.py")}
    texts |= {TESTS: READER, CASES: NEW_CASES}
    archive = write_archive((ArchiveEntry(path, text.encode()) for path, text in texts.items()), modified_at=0)
    ids = tuple(f"{TESTS}::test_{name}" for name in ("abrupt", "kind"))
    plan = msgspec.structs.replace(
        made.task.tests, paths=(TESTS,), fail_to_pass=ids, pass_to_pass=(f"{TESTS}::test_old",)
    )
    files = {**made.files, REFERENCE_ARCHIVE: archive}
    files[FIX_PATCH] = tiny.patch({calibrated.MODULE: FIXED.format(HONEST)})
    package = replace(made, task=msgspec.structs.replace(made.task, tests=plan), files=files)

    found = calibrated.calibrate_package(tiny, package)
    assert (found.protection.strong_twins, found.protection.none, found.runs <= 25) == (2, 0, True)
    assert {name for test in found.plan.tests for name in test.fail_to_pass} == set(ids)
    assert {edit.path for test in found.plan.tests for twin in test.twins for edit in twin.edits} == {CASES}

    task = calibrated.CalibratedTask(
        tiny=tiny, package=replace(package, files={**files, TRUST_FILE: render_trust(found.plan)}), found=found
    )
    assert task.grade(FIXED.format(HONEST)).reward == 1.0
    refused = task.grade(FIXED.format(FORGING))
    assert refused.reward == 0.0
