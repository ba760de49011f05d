"""The contract's Sandbox over an agent, for every provider alike."""

import math
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from envfarm.errors import SandboxLostError, SandboxRefusedError
from envfarm.sandbox.client import files
from envfarm.sandbox.client.box_users import find_user
from envfarm.sandbox.client.connection import AgentClient
from envfarm.sandbox.client.job import Identity, JobEnd, JobSpec, Stage, StreamEnd, StreamSpec, is_missing, run_job
from envfarm.sandbox.contract import MEBIBYTE, REPORT_FD_VARIABLE, WORKSPACE, ExecResult, Limits

MACHINE_OUT_OF_MEMORY = (
    "this machine has no memory left: its kernel ended a process of a sandbox that was within its own bound "
    "(run fewer at a time, or bound them more tightly)"
)
_REPORT_DESCRIPTOR = 3
_OPEN_FILES = 16_384
_RLIMIT_CPU, _RLIMIT_FSIZE, _RLIMIT_CORE, _RLIMIT_NPROC, _RLIMIT_NOFILE = 0, 1, 4, 6, 7
_MISSING, _CANNOT_RUN = 127, 126


@dataclass(frozen=True, kw_only=True)
class BoxSettings:
    """What all commands of a sandbox share.

    Attributes:
        env: Variables of every command; those of a command win.
        limits: Bounds; see `bounds_by_agent` for those of the whole box.
        identity: Whom commands run as and files belong to; the agent's own user by default.
        bounds_by_agent: Whether the agent has to bound memory and processes, because no control group does.
        keeps_background: Whether processes that outlive their command live on until the box ends.
        no_new_privileges: Whether set-user-id programs give nothing.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    identity: Identity | None = None
    bounds_by_agent: bool = False
    keeps_background: bool = False
    no_new_privileges: bool = True


Explain = Callable[[SandboxLostError], Awaitable[SandboxLostError]]
"""Turns the loss of a box into one that says more of its cause."""


class AgentSandbox:
    """A leased box with an agent inside."""

    def __init__(self, client: AgentClient, settings: BoxSettings, explain: Explain | None = None) -> None:
        """Take an agent that this driver holds, and what knows why a box is lost."""
        self.client = client
        self._settings = settings
        self._explain = explain
        identity = settings.identity
        self._acting = None if identity is None else files.Acting(uid=identity.uid, gid=identity.gid)

    @property
    def is_lost(self) -> bool:
        """Whether the box is gone for good."""
        return self.client.lost.is_set()

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
        """Run one command to its end; see the contract."""
        limits = self._settings.limits
        variables = {**self._settings.env, **(env or {})}
        streams = {number: StreamSpec(kept_bytes=limits.output_bytes) for number in (1, 2)}
        if report_limit_bytes:
            variables[REPORT_FD_VARIABLE] = str(_REPORT_DESCRIPTOR)
            streams[_REPORT_DESCRIPTOR] = StreamSpec(kept_bytes=report_limit_bytes, keeps_tail=False)
        spec = JobSpec(
            argv=argv,
            cwd=cwd,
            env=variables,
            identity=self._settings.identity,
            timeout_seconds=timeout_seconds,
            memory_bytes=limits.memory_bytes if self._settings.bounds_by_agent else 0,
            rlimits=self._rlimits(),
            streams=streams,
            ends_leftovers=not self._settings.keeps_background,
            no_new_privileges=self._settings.no_new_privileges,
        )
        try:
            async with self._explained():
                end = await run_job(self.client, spec, stdin=stdin)
                if end.machine_out_of_memory:
                    raise SandboxLostError(MACHINE_OUT_OF_MEMORY)
        except OSError as error:  # of the agent's, which is no end of the command's
            message = f"the sandbox has no room for another command: {error.strerror}"
            raise SandboxRefusedError(message) from error
        return _result_of(end, argv[0], cwd)

    def _rlimits(self) -> dict[int, int]:
        limits = self._settings.limits
        bounds = {
            _RLIMIT_CORE: 0,
            _RLIMIT_FSIZE: limits.file_size_bytes,
            _RLIMIT_NOFILE: _OPEN_FILES,
            _RLIMIT_CPU: max(math.ceil(limits.cpu_seconds), 1),
        }
        if self._settings.bounds_by_agent:
            bounds[_RLIMIT_NPROC] = limits.process_count
        return bounds

    async def read_file(self, path: PurePosixPath, *, limit_bytes: int = 64 * MEBIBYTE) -> bytes:
        """Return a regular file's content; see the contract."""
        try:
            async with self._explained():
                return await files.get(self.client, path, limit_bytes=limit_bytes, acting=self._acting)
        except OSError as error:
            message = f"no regular file at {path} in the sandbox: {error.strerror}"
            raise FileNotFoundError(message) from error

    async def write_file(self, path: PurePosixPath, content: bytes, *, mode: int = 0o644) -> None:
        """Make the file hold exactly `content`; see the contract."""
        async with self._explained():
            await files.put(self.client, [files.Entry(path=path, content=content, mode=mode)], acting=self._acting)

    async def as_user(self, user: str) -> "AgentSandbox":
        """Return the same box as another of its users; see `SwitchesUsers`."""
        found = await find_user(self.read_file, user)
        env = {**self._settings.env, "HOME": found.home}
        return AgentSandbox(self.client, replace(self._settings, identity=found.identity, env=env), self._explain)

    @asynccontextmanager
    async def _explained(self) -> AsyncIterator[None]:
        try:
            yield
        except SandboxLostError as error:
            if self._explain is None:
                raise
            raise await self._explain(error) from error


def _result_of(end: JobEnd, program: str, cwd: PurePosixPath) -> ExecResult:
    nothing = StreamEnd()
    stdout, stderr, report = (end.streams.get(number, nothing) for number in (1, 2, _REPORT_DESCRIPTOR))
    exit_code, words = end.exit_code, stderr.data
    if end.failed_stage is not None:
        exit_code = _MISSING if is_missing(end) else _CANNOT_RUN
        what = cwd if end.failed_stage is Stage.FOLDER else program
        words += f"envfarm: {what}: {os.strerror(end.error_number)}\n".encode(errors="surrogateescape")
    return ExecResult(
        exit_code=exit_code,
        signal=int(signal.SIGKILL) if end.timed_out or end.unwatched else end.signal,
        stdout=stdout.data,
        stderr=words,
        stdout_dropped_bytes=stdout.dropped_bytes,
        stderr_dropped_bytes=stderr.dropped_bytes,
        report=report.data,
        report_dropped_bytes=report.dropped_bytes,
        timed_out=end.timed_out,
        out_of_memory=end.out_of_memory,
        cpu_seconds=end.cpu_seconds,
        peak_memory_bytes=end.peak_memory_bytes,
        wall_seconds=end.wall_seconds,
    )
