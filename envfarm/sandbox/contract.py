"""What a sandbox is, whichever provider made it.

A provider knows where a sandbox runs; a sandbox runs commands and moves files. There is no start or stop to forget:
a lease is an `async with` block, and nothing of the sandbox outlives it, whether it ends well, raises, is cancelled,
or the driver is killed. `envfarm.sandbox.conformance` is the contract as tests.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Protocol, runtime_checkable

from envfarm.records.image import Folder, Image
from envfarm.sandbox.services import ServiceGroup

WORKSPACE = PurePosixPath("/workspace")
"""Where the code to work on lies; the working directory of every command unless told otherwise."""
ENVIRONMENT = PurePosixPath("/opt/venv")
"""The task's locked environment; its programs come first on PATH."""
PROJECT = PurePosixPath("/opt/project")
"""What installing the project itself put on the path of its language, without its source."""
TRUSTED = PurePosixPath("/opt/envfarm")
"""envfarm's own programs for the box, read-only."""
REPORT_FD_VARIABLE = "ENVFARM_REPORT_FD"
"""Environment variable that tells a command the number of its report descriptor."""

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
GIBIBYTE = 1024 * MEBIBYTE


class Network(StrEnum):
    """What a sandbox can reach. Loopback inside it always works."""

    NONE = "none"
    ALLOWLIST = "allowlist"
    """The hosts of `LeaseRequest.allowed_hosts` through a proxy, and nothing else."""
    PUBLIC = "public"


class Privileges(StrEnum):
    """What the commands of a sandbox may do inside it."""

    NONE = "none"
    """An ordinary user without capabilities; the system is read-only."""
    ROOT = "root"
    """Root of the box, who may change its system and be other users: what images of other people expect."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on one sandbox; whatever a provider cannot enforce, `envfarm doctor` says.

    Attributes:
        memory_bytes: Resident memory of all processes together.
        process_count: Processes and threads at one time.
        cpu_seconds: CPU time of any one process.
        file_size_bytes: Size of any one file that is written.
        disk_bytes: All that is written to the workspace, /tmp and /dev/shm together.
        output_bytes: Bytes kept of each output stream: the first and the last half.
        cpu_cores: Processors at one time, such as 1.5; None for all there are.
    """

    memory_bytes: int = 4 * GIBIBYTE
    process_count: int = 512
    cpu_seconds: float = 3600.0
    file_size_bytes: int = 2 * GIBIBYTE
    disk_bytes: int = 2 * GIBIBYTE
    output_bytes: int = MEBIBYTE
    cpu_cores: float | None = None


@dataclass(frozen=True, kw_only=True)
class LeaseRequest:
    """What is asked of a provider.

    Attributes:
        image: What the sandbox is made from. A folder with target `WORKSPACE` is the workspace; without one the
            workspace is empty and writable.
        folders: More folders of this machine for this lease only, such as the grader's own programs.
        network: What the sandbox can reach.
        allowed_hosts: Host names that Network.ALLOWLIST lets through.
        privileges: What its commands may do inside it.
        keeps_background: Whether processes that outlive their command live until the lease ends; else they end with it.
        limits: Bounds on the sandbox.
        labels: Free text for people who look at leases from outside.
        services: What lives beside the sandbox for as long as it does; None for nothing.
    """

    image: Image
    folders: tuple[Folder, ...] = ()
    network: Network = Network.NONE
    allowed_hosts: tuple[str, ...] = ()
    privileges: Privileges = Privileges.NONE
    keeps_background: bool = False
    limits: Limits = Limits()
    labels: Mapping[str, str] = field(default_factory=dict)
    services: ServiceGroup | None = None


@dataclass(frozen=True, kw_only=True)
class ExecResult:
    """How one command ended. Exactly one of `exit_code` and `signal` is set.

    Attributes:
        exit_code: The program's exit code.
        signal: Number of the signal that ended the program; 9 where a limit did.
        stdout: First and last bytes of the stream, joined; see `stdout_dropped_bytes`.
        stderr: The same for standard error.
        stdout_dropped_bytes: Bytes missing from the middle of `stdout`.
        stderr_dropped_bytes: Bytes missing from the middle of `stderr`.
        report: What came down the report descriptor, cut at its limit.
        report_dropped_bytes: Bytes past the report's limit.
        timed_out: Whether the time limit ended the command.
        out_of_memory: Whether the memory limit ended a process of it.
        cpu_seconds: User and system time of the whole tree.
        peak_memory_bytes: Largest resident size of one process of the tree.
        wall_seconds: Wall-clock time from start to end.
    """

    exit_code: int | None
    signal: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_dropped_bytes: int = 0
    stderr_dropped_bytes: int = 0
    report: bytes = b""
    report_dropped_bytes: int = 0
    timed_out: bool = False
    out_of_memory: bool = False
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    wall_seconds: float = 0.0


@runtime_checkable
class Sandbox(Protocol):
    """A leased box. Every method raises SandboxLostError once the box is gone."""

    async def exec(
        self,
        argv: Sequence[str],
        *,
        cwd: PurePosixPath = WORKSPACE,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout_seconds: float,
        report_limit_bytes: int = 0,
    ) -> ExecResult:
        """Run one command to its end.

        A failing command is a value (`exit_code`); a failing sandbox is an exception. If this raises or is
        cancelled the command may have run in part: its whole tree is killed, nothing is rolled back.

        Args:
            argv: Program and arguments; no shell is involved. A program that is missing or cannot be executed
                gives exit code 127 or 126, with the reason on standard error.
            cwd: Working directory; one that is missing gives exit code 126.
            env: Added to the image's own variables and to PATH, HOME, LANG and TMPDIR; nothing else of the
                driver's environment is seen.
            stdin: All of standard input; it ends after these bytes.
            timeout_seconds: Wall-clock bound; on expiry the whole process tree is killed.
            report_limit_bytes: When positive, the command gets a descriptor of its own for a report, its number in
                the variable `REPORT_FD_VARIABLE`; up to this many bytes of it come back.

        Raises:
            SandboxLostError: The sandbox is gone; the lease is void.
        """
        ...

    async def read_file(self, path: PurePosixPath, *, limit_bytes: int = 64 * MEBIBYTE) -> bytes:
        """Return a regular file's content, as the sandbox's own user sees it (a link out leads nowhere outside).

        Raises:
            FileNotFoundError: There is no such regular file.
            ValueError: The file is larger than `limit_bytes`.
            SandboxLostError: The sandbox is gone.
        """
        ...

    async def write_file(self, path: PurePosixPath, content: bytes, *, mode: int = 0o644) -> None:
        """Make the file hold exactly `content`: atomically, missing parents made.

        Raises:
            OSError: The path cannot be written: read-only, a folder, or no space left.
            SandboxLostError: The sandbox is gone.
        """
        ...


@runtime_checkable
class SwitchesUsers(Protocol):
    """A sandbox that can act as any user of its box: one with Privileges.ROOT, where the provider has it."""

    async def as_user(self, user: str) -> Sandbox:
        """Return the same box, whose commands run and whose files are read and written as another user.

        Args:
            user: A name of the box's own /etc/passwd, or UID, or UID:GID.

        Raises:
            LookupError: The box has no such user.
            SandboxLostError: The sandbox is gone.
        """
        ...


@runtime_checkable
class ReachesServices(Protocol):
    """A sandbox with services beside it, where the provider has them."""

    async def run_in_service(
        self, service: str, argv: Sequence[str], *, user: str | None = None, timeout_seconds: float
    ) -> ExecResult:
        """Run one command in a service to its end, in the service's own working directory and variables.

        When time is up, or this is cancelled, the command may run on until the sandbox ends.

        Args:
            service: Its name.
            argv: Program and arguments; no shell is involved.
            user: As its image knows it; None for the service's own.
            timeout_seconds: Wall-clock bound.

        Raises:
            SandboxStartError: The service does not run.
            SandboxLostError: The service is gone.
        """
        ...

    async def read_from_service(
        self, service: str, path: PurePosixPath, *, limit_bytes: int = 64 * MEBIBYTE
    ) -> bytes | None:
        """Return a file or folder of a service as an archive (tar), whether it runs or has ended; None for neither.

        Names in it begin with the last part of the path. What it holds is the service's word.

        Raises:
            ValueError: The archive is larger than `limit_bytes`.
            SandboxLostError: The service is gone.
        """
        ...


@runtime_checkable
class PreparesSandboxes(Protocol):
    """A provider that can have boxes stand ready."""

    async def prepare(self, request: LeaseRequest, count: int) -> None:
        """Have so many boxes stand ready for leases of this request; returns once they do.

        Raises:
            SandboxStartError: One could not be made.
        """
        ...


@runtime_checkable
class SandboxProvider(Protocol):
    """Makes sandboxes. An instance is used inside the `async with` block that opened it."""

    @property
    def name(self) -> str:
        """The entry-point name, such as ``local``."""
        ...

    def lease(self, request: LeaseRequest) -> AbstractAsyncContextManager[Sandbox]:
        """Give a fresh sandbox for the length of an `async with` block.

        Leaving the block kills all that runs in the sandbox and removes all that it wrote, shielded from
        cancellation and bounded in time.

        Raises:
            SandboxStartError: The sandbox could not be made, or the provider has nothing like it; nothing is left.
            MissingToolError: This machine lacks something that the provider needs.
        """
        ...


class SandboxProviderFactory(Protocol):
    """What an entry point of group ``envfarm.sandboxes`` names: a callable that opens a provider."""

    def __call__(self, options: Mapping[str, object]) -> AbstractAsyncContextManager[SandboxProvider]:
        """Open a provider with the options of ``[sandbox.options]`` in the settings; unknown ones are an error."""
        ...
