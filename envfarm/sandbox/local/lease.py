"""The driver's side of one lease: sends commands to the holder and collects what comes back."""

import json
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import anyio

from envfarm.errors import SandboxLostError
from envfarm.sandbox.contract import MEBIBYTE, REPORT_FD_VARIABLE, WORKSPACE, ExecResult, Limits
from envfarm.sandbox.local.cgroups import ControlGroups
from envfarm.sandbox.local.file_transfer import read_from, write_to
from envfarm.sandbox.local.jail_command import command_arguments, refused_status
from envfarm.sandbox.local.streams import BoundedOutput, drain, feed

_REPORT_DESCRIPTOR = 3
_KILL_GRACE_SECONDS = 10.0
_MAXIMUM_MESSAGE = 1 << 20
_SIGNAL_BASE = 128
_LARGEST_SIGNAL = 64
_OPEN_FILES = 16_384
_LARGE_MESSAGE = 100_000  # a socket of an ordinary user takes 200 KB at once


@dataclass
class _Running:
    ended: anyio.Event = field(default_factory=anyio.Event)
    answer: dict[str, float | str | None] | None = None


class LocalSandbox:
    """One leased jail."""

    def __init__(
        self, channel: socket.socket, lease_arguments: Sequence[str], limits: Limits, groups: ControlGroups
    ) -> None:
        """Take the socket to the holder and what all commands of the lease share."""
        self._channel = channel
        self._lease_arguments = lease_arguments
        self._limits = limits
        self._groups = groups
        self._running: dict[int, _Running] = {}
        self._next = 0
        self._sending = anyio.Lock(fast_acquire=True)
        self.gone = anyio.Event()
        """Set once the holder has ended, with all that it owned."""

    async def listen(self) -> None:
        """Take the holder's answers until its end of the socket closes; then the sandbox is lost."""
        while True:
            try:
                data = self._channel.recv(_MAXIMUM_MESSAGE)
            except BlockingIOError:
                await anyio.wait_readable(self._channel)
                continue
            except OSError:
                data = b""
            if not data:
                break
            answer = json.loads(data)
            running = self._running.pop(answer["id"], None)
            if running is not None:
                running.answer = answer
                running.ended.set()
        self.gone.set()
        for running in self._running.values():
            running.ended.set()

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
        variables = dict(env or {})
        if report_limit_bytes:
            variables[REPORT_FD_VARIABLE] = str(_REPORT_DESCRIPTOR)
        words = command_arguments(self._lease_arguments, argv, cwd=cwd, env=variables)
        outputs = [BoundedOutput(self._limits.output_bytes) for _ in range(2)]
        if report_limit_bytes:
            outputs.append(BoundedOutput(report_limit_bytes, keep_tail=False))
        kills = self._groups.out_of_memory_kills()
        running, timed_out = await self._run(words, stdin, outputs, timeout_seconds)
        if running.answer is None:
            message = "the sandbox ended while a command ran in it"
            raise SandboxLostError(message)
        if "error" in running.answer:
            raise SandboxLostError(str(running.answer["error"]))
        exit_code: int | None
        ended_by: int | None
        kept = [output.close() for output in outputs]
        report, report_dropped = kept[2] if report_limit_bytes else (b"", 0)
        if timed_out:
            exit_code, ended_by = None, int(signal.SIGKILL)
        else:
            exit_code, ended_by = decode_end(running.answer, kept[1][0])
        return ExecResult(
            exit_code=exit_code,
            signal=ended_by,
            stdout=kept[0][0],
            stderr=kept[1][0],
            stdout_dropped_bytes=kept[0][1],
            stderr_dropped_bytes=kept[1][1],
            report=report,
            report_dropped_bytes=report_dropped,
            timed_out=timed_out,
            out_of_memory=self._groups.out_of_memory_kills() > kills,
            cpu_seconds=float(running.answer["cpu_seconds"] or 0),
            peak_memory_bytes=int(running.answer["peak_memory_bytes"] or 0),
            wall_seconds=float(running.answer["wall_seconds"] or 0),
        )

    async def read_file(self, path: PurePosixPath, *, limit_bytes: int = 64 * MEBIBYTE) -> bytes:
        """Return a regular file's content; see the contract."""
        return await read_from(self, path, limit_bytes=limit_bytes)

    async def write_file(self, path: PurePosixPath, content: bytes, *, mode: int = 0o644) -> None:
        """Make the file hold exactly `content`; see the contract."""
        await write_to(self, path, content, mode=mode)

    def with_output_limit(self, limit_bytes: int) -> "LocalSandbox":
        """Return the same sandbox with another bound on output, for reading files."""
        limits = Limits(output_bytes=limit_bytes)
        twin = LocalSandbox(self._channel, self._lease_arguments, limits, self._groups)
        twin.__dict__.update({name: value for name, value in self.__dict__.items() if name != "_limits"})
        return twin

    async def _run(
        self, words: Sequence[str], stdin: bytes, outputs: list[BoundedOutput], timeout_seconds: float
    ) -> tuple[_Running, bool]:
        number, running = self._register()
        ours: list[int] = []
        try:
            theirs = _open_pipes(ours, len(outputs))
            try:
                await self._send({"do": "exec", "id": number, **self._exec_message(words)}, theirs)
            finally:
                for descriptor in theirs:
                    os.close(descriptor)
            with anyio.move_on_after(timeout_seconds) as scope:
                await self._collect(running, stdin, ours, outputs)
            late = scope.cancelled_caught and not running.ended.is_set()
            if late:
                await self._kill(number, running)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._kill(number, running)
            raise
        else:
            return running, late
        finally:
            for descriptor in ours:
                if descriptor >= 0:
                    os.close(descriptor)

    def _register(self) -> tuple[int, _Running]:
        if self.gone.is_set():
            message = "the sandbox is gone"
            raise SandboxLostError(message)
        self._next += 1
        running = self._running[self._next] = _Running()
        return self._next, running

    def _exec_message(self, words: Sequence[str]) -> dict[str, object]:
        rlimits = {
            "RLIMIT_CORE": 0,
            "RLIMIT_FSIZE": self._limits.file_size_bytes,
            "RLIMIT_NOFILE": _OPEN_FILES,
            "RLIMIT_CPU": max(int(self._limits.cpu_seconds), 1),
        }
        if self._groups.memory is None:
            rlimits["RLIMIT_AS"] = 2 * self._limits.memory_bytes  # a bound on what is reserved, not what is used
        if self._groups.pids is None:
            rlimits["RLIMIT_NPROC"] = self._limits.process_count
        return {"argv": list(words), "join": self._groups.join_files(), "rlimits": rlimits}

    async def _collect(self, running: _Running, stdin: bytes, ours: list[int], outputs: list[BoundedOutput]) -> None:
        async with anyio.create_task_group() as group:
            for descriptor, output in zip(ours[1:], outputs, strict=True):
                group.start_soon(drain, descriptor, output)
            await feed(ours[0], stdin)
            os.close(ours[0])
            ours[0] = -1
            await running.ended.wait()

    async def _send(self, message: Mapping[str, object], descriptors: Sequence[int]) -> None:
        data = json.dumps(message).encode()
        if len(data) <= _LARGE_MESSAGE:
            await self._send_bytes(data, descriptors)
            return
        large = os.memfd_create("envfarm", os.MFD_CLOEXEC)
        try:
            os.write(large, data)
            await self._send_bytes(b'{"do": "large"}', [*descriptors, large])
        finally:
            os.close(large)

    async def _send_bytes(self, data: bytes, descriptors: Sequence[int]) -> None:
        async with self._sending:
            while True:
                try:
                    socket.send_fds(self._channel, [data], descriptors)
                except BlockingIOError:
                    await anyio.wait_writable(self._channel)
                    continue
                except OSError as error:
                    text = f"the sandbox takes no commands any more: {error}"
                    raise SandboxLostError(text) from error
                return

    async def _kill(self, number: int, running: _Running) -> None:
        try:
            await self._send({"do": "kill", "id": number}, [])
        except SandboxLostError:
            return
        with anyio.move_on_after(_KILL_GRACE_SECONDS):
            await running.ended.wait()


def _open_pipes(ours: list[int], output_count: int) -> list[int]:
    """Open the pipes of a command: appends the driver's ends to `ours`, returns the command's."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writing, False)
    ours.append(writing)
    theirs = [reading]
    for _ in range(output_count):
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)
        ours.append(reading)
        theirs.append(writing)
    return theirs


def decode_end(answer: Mapping[str, object], stderr: bytes) -> tuple[int | None, int | None]:
    """Return exit code or signal; bubblewrap tells a signal as 128 and its number.

    Raises:
        SandboxLostError: bubblewrap failed before the program began, or was killed by somebody else.
    """
    status = int(str(answer["status"]))
    told = answer["exit_code"]
    if os.WIFSIGNALED(status):
        message = f"bubblewrap was killed from outside, by signal {os.WTERMSIG(status)}"
        raise SandboxLostError(message)
    code = os.WEXITSTATUS(status) if told is None else int(str(told))
    if _SIGNAL_BASE < code <= _SIGNAL_BASE + _LARGEST_SIGNAL:
        return None, code - _SIGNAL_BASE
    if told is None:
        refused = refused_status(stderr)
        if refused is None:
            message = f"bubblewrap failed: {stderr[-500:].decode(errors='replace').strip()}"
            raise SandboxLostError(message)
        return refused, None
    return code, None
