"""Runs tests in a box and reads their report; places the files that a submission cannot change."""

import marshal
import secrets
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from envfarm.errors import Attribution, VerifierError
from envfarm.records.image import Folder
from envfarm.records.test_report import TestReport
from envfarm.sandbox.contract import ENVIRONMENT, MEBIBYTE, TRUSTED, ExecResult, Sandbox
from envfarm_verifiers.report_stream import parse_report
from envfarm_verifiers.test_command import MARSHAL_VERSION, TestCommand
from envfarm_verifiers.test_files import Placement

_REPORT_LIMIT_BYTES = 64 * MEBIBYTE
_PLACE_SECONDS = 120.0
_DISK_FULL, _NOT_PLACED = 93, 94
_NOT_RUN = {126, 127}


@dataclass(frozen=True, kw_only=True)
class TestRun:
    """One run of a test suite: what the runner reported, and what was seen from outside.

    Attributes:
        report: What was reported.
        result: The process.
        placed: False where there was no room for the files to be placed, which only the submission can have caused;
            then no test ran.
    """

    __test__ = False

    report: TestReport
    result: ExecResult
    placed: bool = True


def trusted_folder() -> Folder:
    """Return our own programs as a box mounts them, read-only, at /opt/envfarm."""
    return Folder(source=str(Path(__file__).with_name("box_programs")), target=str(TRUSTED))


async def run_tests(sandbox: Sandbox, command: TestCommand, placement: Placement | None = None) -> TestRun:
    """Run the tests once.

    Args:
        sandbox: The box.
        command: What is run.
        placement: What is placed before anything is run; nothing for None.

    Raises:
        VerifierError: The files cannot be placed, for another reason than a full disk.
        SandboxLostError: The sandbox is gone.
    """
    nonce = secrets.token_hex(16)
    result = await sandbox.exec(
        command.argv(),
        env=command.variables(),
        stdin=command.stdin(nonce, placement.job() if placement is not None else None),
        timeout_seconds=command.run_timeout_seconds,
        report_limit_bytes=_REPORT_LIMIT_BYTES,
    )
    if not result.report and result.exit_code in _NOT_RUN:
        await _require_interpreter(sandbox)
    report = parse_report(result.report, nonce, dropped_bytes=result.report_dropped_bytes)
    placed = placement is None or bool(result.report) or _is_placed(result)
    return TestRun(report=report, result=result, placed=placed)


async def place_reference(sandbox: Sandbox, placement: Placement) -> bool:
    """Make the protected files of the workspace what they have to be, by a program of its own.

    Args:
        sandbox: The box; no submitted code has run in it.
        placement: What it is made to hold.

    Returns:
        False when there was no room left, which only the submission can have caused.

    Raises:
        VerifierError: They cannot be placed for another reason.
        SandboxLostError: The sandbox is gone.
    """
    result = await sandbox.exec(
        (f"{ENVIRONMENT}/bin/python", "-I", "-S", f"{TRUSTED}/place_files.py"),
        stdin=marshal.dumps(placement.job(), MARSHAL_VERSION),
        timeout_seconds=_PLACE_SECONDS,
    )
    return result.exit_code == 0 or _is_placed(result, begins_with_it=False)


async def _require_interpreter(sandbox: Sandbox) -> None:
    """Tell a run that said it could not be run from a box whose interpreter cannot: that is no submission's doing.

    Raises:
        VerifierError: The environment's interpreter cannot be run, also with nothing of the submission.
    """
    argv = (f"{ENVIRONMENT}/bin/python", "-I", "-S", "-c", "")
    result = await sandbox.exec(argv, cwd=PurePosixPath("/"), timeout_seconds=_PLACE_SECONDS)
    if result.exit_code in _NOT_RUN:
        said = result.stderr[-500:].decode("utf-8", "replace").strip()
        message = f"the environment's interpreter cannot be run in the box: {said}"
        raise VerifierError(message, attribution=Attribution.SANDBOX, retryable=True)


def _is_placed(result: ExecResult, *, begins_with_it: bool = True) -> bool:
    """Say whether a program that reported nothing has placed the files all the same.

    Raises:
        VerifierError: It has not, and the disk is not full.
    """
    if result.exit_code == _DISK_FULL:
        return False
    if begins_with_it and result.exit_code != _NOT_PLACED:
        return True
    ended = "timed out" if result.timed_out else f"signal {result.signal}" if result.signal else result.exit_code
    said = result.stderr[-500:].decode("utf-8", "replace").strip()
    message = f"the hidden tests could not be placed ({ended}): {said}"
    raise VerifierError(message, retryable=True)
