"""A tiny task with deciding tests of every kind, calibrated as the miner does it, for tests of the layers."""

import importlib.util
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from envfarm.grading.grade import GradingOptions, grade
from envfarm.grading.level import STANDARD, GradingLevel
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import FIX_PATCH, REFERENCE_ARCHIVE, TaskPackage
from envfarm.records.trust import TRUST_FILE
from envfarm.records.verdict import Verdict
from envfarm.sandbox.contract import SandboxProvider
from envfarm.sandbox.local.provider import open_local_provider
from envfarm_verifiers.trust_file import render_trust
from task_miner.languages.python_code import PythonCode
from task_miner.packaging.archive import ArchiveEntry, write_archive
from task_miner.quality.calibrate import Calibrated, calibrate
from task_miner.quality.calibration_bench import CalibrationRequest

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask

MODULE = "src/tiny/__init__.py"
TESTS = "tests/test_tiny.py"
SECRET = "zebra-4711"  # noqa: S105 -- an expected value, kept from the box
FIX = (
    "def add(a, b):\n    return a + b\n\n\ndef greet(name):\n    return f'hello {name}'\n\n\n"
    "def animal():\n    return 'zebra-' + str(4711)\n\n\ndef twice(a):\n    return a * 2\n\n\n"
    "def check(number):\n    if number < 0:\n        raise ValueError(number)\n    return [number]\n"
)
HIDDEN = (
    "import pytest\n\nimport tiny\nfrom tiny import greet\n\n\n"
    "def test_greet():\n    assert greet('you') == 'hello you'\n\n\n"
    "def test_add():\n    assert tiny.add(2, 3) == 5\n\n\n"
    f"def test_animal():\n    found = tiny.animal()\n    assert found == '{SECRET}'\n\n\n"
    "@pytest.mark.parametrize('a, expected', [(1, 2), (21, 42)])\n"
    "def test_twice(a, expected):\n    assert tiny.twice(a) == expected\n\n\n"
    "def test_check():\n    with pytest.raises(ValueError):\n        tiny.check(-1)\n"
)
DECIDING = ("test_add", "test_animal", "test_check", "test_twice[1-2]", "test_twice[21-42]")


@dataclass(frozen=True, kw_only=True)
class CalibratedTask:
    """A calibrated task, and how to grade changes of its module."""

    tiny: "TinyTask"
    package: TaskPackage
    found: Calibrated

    def submit(self, module: str | None) -> Submission:
        """Return a submission that makes the module hold a text; None for the true fix."""
        if module is None:
            return Submission(task_id=self.package.task.task_id, kind=SubmissionKind.ORACLE)
        return self.tiny.submit(self.tiny.patch({MODULE: module}))

    def grade(
        self, module: str | None, level: GradingLevel = STANDARD, provider: SandboxProvider | None = None
    ) -> Verdict:
        """Grade a text of the module."""

        submission = self.submit(module)

        async def run() -> Verdict:
            async with open_local_provider({}) as local:
                return await grade(
                    self.package,
                    submission,
                    provider=provider or local,
                    image=self.tiny.image,
                    options=GradingOptions(level=level),
                )

        return anyio.run(run)


def load_tiny(folder: Path) -> "TinyTask":
    """Return a tiny task of its own in an empty folder."""
    path = Path(__file__).with_name("tiny") / "task.py"
    spec = importlib.util.spec_from_file_location("tiny_task_to_calibrate", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tiny: TinyTask = module.make_tiny_task(folder)
    return tiny


def make_package(tiny: "TinyTask") -> TaskPackage:
    """Return the task before it is calibrated."""
    reference = {path: tiny.base[path] for path in ("pyproject.toml", "tests/conftest.py")} | {TESTS: HIDDEN}
    archive = write_archive((ArchiveEntry(path, text.encode()) for path, text in reference.items()), modified_at=0)
    plan = msgspec.structs.replace(
        tiny.package.task.tests,
        paths=(TESTS,),
        fail_to_pass=tuple(f"{TESTS}::{name}" for name in DECIDING),
        pass_to_pass=(f"{TESTS}::test_greet",),
    )
    files = {REFERENCE_ARCHIVE: archive, FIX_PATCH: tiny.patch({MODULE: FIX})}
    return replace(tiny.package, task=msgspec.structs.replace(tiny.package.task, tests=plan), files=files)


def calibrate_package(tiny: "TinyTask", package: TaskPackage) -> Calibrated:
    """Return what calibration finds out."""

    async def run() -> Calibrated:
        async with open_local_provider({}) as provider:
            return await calibrate(
                CalibrationRequest(
                    package=package,
                    image=tiny.image,
                    lease=provider.lease,
                    base_tests={path: text.encode() for path, text in tiny.base.items()},
                    propose=PythonCode().guards,
                    boxes=anyio.CapacityLimiter(2),
                )
            )

    return anyio.run(run)


def make_calibrated_task(folder: Path) -> CalibratedTask:
    """Make the task in an empty folder, and calibrate it."""
    tiny = load_tiny(folder)
    package = make_package(tiny)
    found = calibrate_package(tiny, package)
    return CalibratedTask(
        tiny=tiny,
        package=replace(package, files={**package.files, TRUST_FILE: render_trust(found.plan)}),
        found=found,
    )
