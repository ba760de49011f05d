"""One run of tests in a fresh box: the submission's own part, the hidden tests, the run, and a look at the files after.

The order is the protection: the diff is applied by git before anything of it can run, then a process starts that makes
the protected files what they have to be before it imports anything of the submission. What leaves the box is the report
down its own descriptor; nothing that lies in a file or is printed counts.
"""

import marshal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from envfarm.errors import Attribution, VerifierError
from envfarm.grading.contract import Lease
from envfarm.records.image import Image
from envfarm.records.task import REFERENCE_ARCHIVE, TaskPackage
from envfarm.sandbox.contract import ENVIRONMENT, TRUSTED, WORKSPACE, LeaseRequest, Network, Sandbox
from envfarm_verifiers.patch_application import PatchApplied, apply_patch
from envfarm_verifiers.test_command import MARSHAL_VERSION, TestCommand
from envfarm_verifiers.test_files import Placement
from envfarm_verifiers.test_run import TestRun, run_tests, trusted_folder

_CHECK_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class BoxRequest:
    """What all runs of one judgement share.

    Attributes:
        package: The task.
        image: Its image.
        lease: Leases a fresh box.
        patch: What is kept of the submission's diff.
    """

    package: TaskPackage
    image: Image
    lease: Lease
    patch: bytes = field(repr=False)

    def reference(self) -> bytes:
        """Return the reference archive.

        Raises:
            VerifierError: The task has none.
        """
        found = self.package.files.get(REFERENCE_ARCHIVE)
        if found is None:
            message = f"{REFERENCE_ARCHIVE}: the task has no hidden tests"
            raise VerifierError(message, attribution=Attribution.TASK)
        return found


@dataclass(frozen=True, kw_only=True)
class BoxRun:
    """What was seen of one box.

    Attributes:
        applied: What became of the diff.
        placed: Whether the hidden tests could be placed; None where it did not come to that.
        run: The run; None where it did not come to that.
        changed_files: Protected files that are not any more what they were made.
    """

    applied: PatchApplied
    placed: bool | None = None
    run: TestRun | None = None
    changed_files: tuple[str, ...] = ()


async def run_in_box(
    request: BoxRequest, command: TestCommand, *, altered: Mapping[str, bytes] | None = None, checks_files: bool = False
) -> BoxRun:
    """Run the tests once, in a box of their own.

    Args:
        request: What is judged.
        command: What is run.
        altered: Test files that have another content in this run.
        checks_files: Whether to look at the protected files after the run.

    Raises:
        BoundaryError: The box is lost or cannot be made, the hidden tests cannot be placed, git is missing.
    """
    task = request.package.task
    placement = Placement(
        archive=request.reference(),
        protected=task.tests.protected,
        removed_paths=task.tests.removed_paths,
        altered=altered or {},
    )
    lease = LeaseRequest(
        image=request.image, folders=(trusted_folder(),), network=Network.NONE, labels={"task": task.task_id}
    )
    async with request.lease(lease) as sandbox:
        applied = await apply_patch(sandbox, request.patch)
        if not applied.applied:
            return BoxRun(applied=applied)
        run = await run_tests(sandbox, command, placement)
        if not run.placed:
            return BoxRun(applied=applied, placed=False)
        changed = await _changed_files(sandbox, placement) if checks_files else ()
    return BoxRun(applied=applied, placed=True, run=run, changed_files=changed)


async def _changed_files(sandbox: Sandbox, placement: Placement) -> tuple[str, ...]:
    result = await sandbox.exec(
        (f"{ENVIRONMENT}/bin/python", "-I", "-S", f"{TRUSTED}/check_files.py"),
        cwd=PurePosixPath("/"),
        stdin=marshal.dumps(placement.contents(), MARSHAL_VERSION),
        timeout_seconds=_CHECK_SECONDS,
    )
    if result.exit_code != 0:  # what the run left keeps a plain program from reading it: that is the run's doing
        return (f"{WORKSPACE} cannot be read any more",)
    return tuple(path.decode("utf-8", "surrogateescape") for path in result.stdout.split(b"\0") if path)
