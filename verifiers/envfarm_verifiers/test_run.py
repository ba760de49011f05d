"""Runs tests in a box and reads their report; places the files that a submission cannot change."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from envfarm.errors import VerifierError
from envfarm.records.image import Folder
from envfarm.records.test_report import TestReport
from envfarm.sandbox.contract import ENVIRONMENT, MEBIBYTE, TRUSTED, ExecResult, Sandbox
from envfarm_verifiers.report_stream import parse_report
from envfarm_verifiers.test_command import TestCommand

_REPORT_LIMIT_BYTES = 64 * MEBIBYTE
_PLACE_SECONDS = 120.0
_DISK_FULL = 3


@dataclass(frozen=True, kw_only=True)
class TestRun:
    """One run of a test suite: what the runner reported, and what was seen from outside."""

    __test__ = False

    report: TestReport
    result: ExecResult


def trusted_folder() -> Folder:
    """Return our own programs as a box mounts them, read-only, at /opt/envfarm."""
    return Folder(source=str(Path(__file__).with_name("box_programs")), target=str(TRUSTED))


async def run_tests(sandbox: Sandbox, command: TestCommand) -> TestRun:
    """Run the tests once.

    Raises:
        SandboxLostError: The sandbox is gone.
    """
    nonce = secrets.token_hex(16)
    result = await sandbox.exec(
        command.argv(),
        env=command.variables(),
        stdin=command.stdin(nonce),
        timeout_seconds=command.run_timeout_seconds,
        report_limit_bytes=_REPORT_LIMIT_BYTES,
    )
    report = parse_report(result.report, nonce, dropped_bytes=result.report_dropped_bytes)
    return TestRun(report=report, result=result)


async def place_reference(
    sandbox: Sandbox, archive: bytes, *, protected: Sequence[str], removed_paths: Sequence[str]
) -> bool:
    """Make the protected files of the workspace what they have to be.

    Args:
        sandbox: The box; no submitted code has run in it.
        archive: The reference archive.
        protected: Patterns; whatever matches and is not in the archive is removed.
        removed_paths: Paths that are removed as well.

    Returns:
        False when there was no room left, which only the submission can have caused.

    Raises:
        VerifierError: They cannot be placed for another reason.
        SandboxLostError: The sandbox is gone.
    """
    job = json.dumps({"protected": list(protected), "removed": list(removed_paths)}).encode()
    result = await sandbox.exec(
        (f"{ENVIRONMENT}/bin/python", "-I", f"{TRUSTED}/place_files.py"),
        stdin=job + b"\n" + archive,
        timeout_seconds=_PLACE_SECONDS,
    )
    if result.exit_code == 0:
        return True
    if result.exit_code == _DISK_FULL:
        return False
    ended = "timed out" if result.timed_out else f"signal {result.signal}" if result.signal else result.exit_code
    said = result.stderr[-500:].decode("utf-8", "replace").strip()
    message = f"the hidden tests could not be placed ({ended}): {said}"
    raise VerifierError(message, retryable=True)
