"""What the checks of `conformance` work with."""

import shlex
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from envfarm.records.image import Folder, Image
from envfarm.sandbox.contract import (
    WORKSPACE,
    ExecResult,
    LeaseRequest,
    Limits,
    Network,
    Sandbox,
    SandboxProvider,
)

TEMPORARY = PurePosixPath("/tmp")  # noqa: S108 -- inside the box


class BrokenContractError(AssertionError):
    """A sandbox does something that its contract forbids, or leaves out something that it asks for."""


@dataclass(frozen=True, kw_only=True)
class ConformanceMaterial:
    """A provider, and what its sandboxes are made from.

    Attributes:
        provider: The provider to be checked, open.
        make_image: Makes an image that shows these folders of this machine, besides what every command needs.
        folder: An empty folder of this machine, for folders that sandboxes see; checks add to it.
        shares_one_disk: Whether the bound on disk is one for all places together; else each has it by itself. A
            provider of the second kind says so with an attribute ``shares_one_disk = False``.
    """

    provider: SandboxProvider
    make_image: Callable[[tuple[Folder, ...]], Image]
    folder: Path
    shares_one_disk: bool = True

    def lease(
        self, *folders: Folder, limits: Limits | None = None, network: Network = Network.NONE
    ) -> AbstractAsyncContextManager[Sandbox]:
        """Lease a sandbox that sees these folders."""
        image = self.make_image(folders)
        return self.provider.lease(LeaseRequest(image=image, limits=limits or Limits(), network=network))

    def make_folder(self, files: Mapping[str, str]) -> Path:
        """Return a new folder of this machine with these files, readable by every user."""
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        for name, text in files.items():
            (folder / name).write_text(text)
        return folder


Check = Callable[[ConformanceMaterial], Awaitable[None]]


def expect(seen: object, expected: object, what: str) -> None:
    """Demand equality.

    Raises:
        BrokenContractError: They differ.
    """
    if seen != expected:
        message = f"{what}: expected {_short(expected)}, saw {_short(seen)}"
        raise BrokenContractError(message)


def demand(claim: bool, what: str) -> None:  # noqa: FBT001 -- reads as an assertion
    """Demand that a claim is true.

    Raises:
        BrokenContractError: It is not.
    """
    if not claim:
        raise BrokenContractError(what)


async def run_shell(
    sandbox: Sandbox, program: str, *arguments: str, stdin: bytes = b"", timeout_seconds: float = 60.0
) -> ExecResult:
    """Run a program of the POSIX shell; its arguments are $1 and so on."""
    argv = ["/bin/sh", "-c", program, "sh", *arguments]
    return await sandbox.exec(argv, cwd=WORKSPACE, stdin=stdin, timeout_seconds=timeout_seconds)


async def expect_output(sandbox: Sandbox, program: str, *arguments: str, output: str, what: str) -> None:
    """Demand that a shell program ends well and writes exactly `output`.

    Raises:
        BrokenContractError: It does not.
    """
    result = await run_shell(sandbox, program, *arguments)
    seen = (result.exit_code, result.stdout.decode(errors="replace"))
    if seen != (0, output):
        message = f"{what}: expected {_short(output)}, saw {_short(seen)}; standard error: {_short(result.stderr)}"
        raise BrokenContractError(message)


def heartbeat(path: PurePosixPath) -> str:
    """Return a shell command that never ends and makes a file grow for as long as it lives."""
    return f"while :; do echo x >> {shlex.quote(str(path))}; sleep 0.05; done"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:140]}...{text[-140:]} ({len(text)} characters)"  # noqa: PLR2004 -- a line or two
