"""What is taken out of the box of the work and its services before it is judged: commands first, then artifacts.

Not covered: work that was root in `main` and has replaced its shell is not ended before services are asked; a service
that this machine's want of memory has ended looks like one that has ended by itself.
"""

from pathlib import PurePosixPath

from envfarm.errors import EngineDiskFullError, EngineUnreachableError, SandboxStartError, VerifierError
from envfarm.foreign.artifacts import MOST_BYTES, take_artifact, take_service_artifact
from envfarm.foreign.box import Box
from envfarm.foreign.compose_source import MAIN_SERVICE
from envfarm.foreign.harbor_plan import StepPlan
from envfarm.sandbox.contract import ExecResult

_TOLD_BYTES = 1000


async def collect(box: Box, step: StepPlan, notes: list[str], *, ends_work: bool) -> list[tuple[PurePosixPath, bytes]]:
    """Run a step's collect commands and return its artifacts where another box judges, each with its place.

    What is in `main` comes first. Where nothing of the work is needed any more, it is ended before services are asked,
    so that it changes nothing of what they tell.

    Args:
        box: The box of the work.
        step: The step.
        notes: Commands that failed are told here.
        ends_work: Whether the box has no further use.

    Raises:
        VerifierError: An artifact cannot be taken, or all of them are too large together.
        SandboxStartError: The engine does not answer, or has no room.
    """
    taken = []
    for is_main in (True, False):
        for command in step.collects:
            if (command.service == MAIN_SERVICE) is is_main:
                user = None if command.user is None else str(command.user)
                told = await _run(box, command.service, command.command, user, command.timeout_sec)
                notes += [] if told is None else [f"a collect command failed: {command.command}: {told}"]
        for artifact in step.artifacts if step.verifier_box is not None else ():
            service = artifact.service or MAIN_SERVICE
            if (service == MAIN_SERVICE) is is_main:
                if is_main:
                    root = box.working_directory
                    archive = await take_artifact(box, artifact.source, artifact.exclude)
                else:
                    root = PurePosixPath("/")
                    archive = await take_service_artifact(box, service, artifact.source, artifact.exclude)
                if archive:
                    taken.append((root / artifact.source, archive))
                if sum(len(content) for _, content in taken) > MOST_BYTES:
                    message = f"the artifacts up to {artifact.source} are more than {MOST_BYTES} bytes together"
                    raise VerifierError(message)
        if is_main and ends_work:
            await box.kill_all()
    return taken


async def _run(box: Box, service: str, command: str, user: str | None, seconds: float) -> str | None:
    """Return why a command failed; None where it did not."""
    if service == MAIN_SERVICE:
        result = await box.run(command, user=user, timeout_seconds=seconds)
    else:
        try:
            result = await box.run_in_service(service, command, user=user, timeout_seconds=seconds)
        except (EngineDiskFullError, EngineUnreachableError):
            raise  # says nothing of the service, nor of the work
        except SandboxStartError as error:
            return str(error)
    return None if result.exit_code == 0 else end_of(result)


def end_of(result: ExecResult) -> str:
    """Return in a few words how a command ended."""
    if result.timed_out:
        return "its time was up"
    words = (result.stderr or result.stdout)[-_TOLD_BYTES:].decode("utf-8", "replace").strip()
    return words or f"exit code {result.exit_code}"
