"""Where a task is calibrated: what is asked for, and the runs of its tests that answer it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import anyio

from envfarm.grading.contract import Lease
from envfarm.grading.submission_patch import plan_submission
from envfarm.records.image import Image
from envfarm.records.task import FIX_PATCH, TaskPackage
from envfarm.records.test_report import TestReport
from envfarm.records.trust import ProtectedTest
from envfarm_verifiers.box_run import BoxRequest, BoxRun, run_in_box
from envfarm_verifiers.mixed_plan import definitions_of
from envfarm_verifiers.test_command import TestCommand
from envfarm_verifiers.test_files import read_reference
from envfarm_verifiers.unit_tests import make_command
from task_miner.languages.guards import ProposedTest

_LEAST_TEST_SECONDS, _LEAST_RUN_SECONDS, _SLACK = 5.0, 20.0, 4.0
"""An altered test that hangs is of no use: it is given up soon."""
Propose = Callable[[PurePosixPath, bytes | None, bytes, frozenset[str]], Sequence[ProposedTest]]
"""Path, base content, fixed content, names of functions without their classes; the proposals."""


@dataclass(frozen=True, kw_only=True)
class CalibrationRequest:
    """What to calibrate.

    Attributes:
        package: The task.
        image: Its image.
        lease: Leases a fresh box.
        base_tests: Base content of test files, by path.
        propose: The language's.
        boxes: Bounds the boxes that run at one time; the caller holds none of it.
    """

    package: TaskPackage
    image: Image
    lease: Lease
    base_tests: Mapping[str, bytes] = field(repr=False)
    propose: Propose
    boxes: anyio.CapacityLimiter


class CalibrationBench:
    """Runs tests of the task in boxes, and counts them."""

    def __init__(self, request: CalibrationRequest) -> None:
        """Take what is calibrated; nothing runs yet."""
        self.request = request
        self.count = 0
        package = request.package
        self.fix = plan_submission(package.files[FIX_PATCH], package.task.tests.protected).kept_patch
        self.base = b""
        self.seconds: float | None = None
        self.reference = read_reference(self._box(b"").reference())

    def whole(self, *, watched: bool = False, asking: bool = False) -> TestCommand:
        """Return the command of a whole run; once one was seen, what takes much longer than it is ended."""
        command = replace(make_command(self.request.package.task, {}), watched=watched, asking=asking)
        if self.seconds is None:
            return command
        test_seconds = max(_LEAST_TEST_SECONDS, _SLACK * self.seconds)
        run_seconds = max(_LEAST_RUN_SECONDS, _SLACK * self.seconds)
        return replace(
            command,
            test_timeout_seconds=min(command.test_timeout_seconds, test_seconds),
            run_timeout_seconds=min(command.run_timeout_seconds, run_seconds),
        )

    def small(self, tests: Sequence[ProtectedTest], *, asking: bool = False) -> TestCommand:
        """Return the command of a run of the deciding tests."""
        command = replace(self.whole(asking=asking), light=True)
        definitions = definitions_of(tests)
        wanted = {name.split("::", 1)[0] for name in definitions}
        paths = tuple(path for path in command.paths if path in wanted)
        return replace(command, paths=paths, only_definitions=definitions)

    async def run(
        self,
        patch: bytes,
        command: TestCommand,
        *,
        altered: Mapping[str, bytes] | None = None,
        checks_files: bool = False,
    ) -> BoxRun:
        """Run once."""
        self.count += 1
        async with self.request.boxes:
            return await run_in_box(self._box(patch), command, altered=altered, checks_files=checks_files)

    async def report(self, patch: bytes, command: TestCommand, altered: Mapping[str, bytes]) -> TestReport:
        """Run once and return the report; an empty one where the run did not come to its end."""
        report = await self.partial_report(patch, command, altered)
        return report if report.session_ended else TestReport()

    async def partial_report(self, patch: bytes, command: TestCommand, altered: Mapping[str, bytes]) -> TestReport:
        """Run once and return the report, as far as it came: a test that hangs takes nothing from those before it."""
        found = await self.run(patch, command, altered=altered)
        return found.run.report if found.run is not None else TestReport()

    def _box(self, patch: bytes) -> BoxRequest:
        request = self.request
        return BoxRequest(package=request.package, image=request.image, lease=request.lease, patch=patch)
