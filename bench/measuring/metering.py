"""What boxes use: a provider whose sandboxes tell a meter of every command that ran in them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from envfarm.plugins import SANDBOXES, load_plugin
from envfarm.sandbox.contract import WORKSPACE, ExecResult, LeaseRequest, Sandbox, SandboxProvider


@dataclass
class Meter:
    """Adds up what commands took, as the boxes' own clocks say it.

    Attributes:
        test_seconds: Wall-clock seconds of commands that ran tests.
        test_runs: How many of these there were.
        test_cpu_seconds: User and system time of these.
        cpu_seconds: User and system time of all commands.
    """

    test_seconds: float = 0.0
    test_runs: int = 0
    test_cpu_seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass
class MeteredSandbox:
    """A sandbox that tells a meter of its commands."""

    inner: Sandbox
    meter: Meter = field(default_factory=Meter)

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
        """Run a command, and meter it."""
        result = await self.inner.exec(
            argv,
            cwd=cwd,
            env=env,
            stdin=stdin,
            timeout_seconds=timeout_seconds,
            report_limit_bytes=report_limit_bytes,
        )
        self.meter.cpu_seconds += result.cpu_seconds
        if any(word == "pytest" or word.endswith("launch.py") for word in argv):
            self.meter.test_cpu_seconds += result.cpu_seconds
            self.meter.test_seconds += result.wall_seconds
            self.meter.test_runs += 1
        return result

    async def read_file(self, path: PurePosixPath, *, limit_bytes: int = 64 << 20) -> bytes:
        """Read a file."""
        return await self.inner.read_file(path, limit_bytes=limit_bytes)

    async def write_file(self, path: PurePosixPath, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file."""
        await self.inner.write_file(path, content, mode=mode)


@dataclass
class MeteredProvider:
    """A provider whose sandboxes are metered."""

    inner: SandboxProvider
    meter: Meter
    name: str = "local"

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Sandbox]:
        """Lease a metered sandbox."""
        async with self.inner.lease(request) as sandbox:
            yield MeteredSandbox(sandbox, self.meter)


@asynccontextmanager
async def open_metered(meter: Meter, name: str = "local") -> AsyncIterator[SandboxProvider]:
    """Open a provider, metered."""
    async with load_plugin(SANDBOXES, name)({}) as provider:
        yield MeteredProvider(provider, meter, name)
