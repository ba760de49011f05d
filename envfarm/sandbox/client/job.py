"""Runs programs in a sandbox: starts them once whatever happens to the connection, feeds, follows and ends them."""

import errno
import signal as signals
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import PurePosixPath

import anyio

from envfarm.errors import BoundaryError, SandboxLostError
from envfarm.sandbox.client.connection import AgentClient, Reply, raise_refusal
from envfarm.sandbox.client.frames import Fields, Kind, Status, Tag, Value, encode_fields
from envfarm.sandbox.one_error import as_raised

_FIRST_INPUT_BYTES = 1 << 18
_INPUT_BYTES = 1 << 19
_READ_BYTES = 1 << 20
_INLINE_BYTES = 1 << 18
_WAIT_MS = 600_000
_KILL_SECONDS = 10.0
_ROOT = PurePosixPath("/")


class Stage(IntEnum):
    """Where the start of a program failed."""

    PREPARE = 1
    LIMITS = 2
    IDENTITY = 3
    FOLDER = 4
    PROGRAM = 5


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """What is kept of an output stream: the first and the last half of `kept_bytes`, or the first only."""

    kept_bytes: int
    keeps_tail: bool = True


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A user of the sandbox."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """A program to run.

    Attributes:
        argv: Program and arguments; without a slash the program is looked for on the job's own PATH.
        cwd: Working directory.
        env: All of the program's variables.
        identity: Whom it runs as; the agent's own user by default.
        timeout_seconds: Wall-clock bound on the program, after which its whole tree is killed.
        memory_bytes: Bound on the memory of its tree; 0 for none.
        rlimits: Bounds by number of `resource.RLIMIT_*` of Linux, soft and hard alike.
        streams: By descriptor; 1 and 2 are kept to 1 MiB each unless told otherwise.
        ends_leftovers: Whether processes that outlive the program are killed; else they live until the lease ends.
        no_new_privileges: Whether set-user-id programs give nothing.
    """

    argv: Sequence[str]
    cwd: PurePosixPath = _ROOT
    env: Mapping[str, str] = field(default_factory=dict)
    identity: Identity | None = None
    timeout_seconds: float | None = None
    memory_bytes: int = 0
    rlimits: Mapping[int, int] = field(default_factory=dict)
    streams: Mapping[int, StreamSpec] = field(default_factory=dict)
    ends_leftovers: bool = False
    no_new_privileges: bool = False


@dataclass(frozen=True, kw_only=True)
class StreamEnd:
    """What was kept of a stream: `data`, with `dropped_bytes` missing from its middle or behind it."""

    data: bytes = b""
    dropped_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """How a job ended. Exactly one of `exit_code`, `signal` and `failed_stage` is set.

    Attributes:
        exit_code: The program's own.
        signal: What ended it; 9 where a bound did.
        failed_stage: Why it never began, with `error_number`.
        error_number: Of the kernel of the sandbox.
        streams: What it wrote, by descriptor.
        cpu_seconds: User and system time of the tree, as far as it has ended.
        peak_memory_bytes: Largest resident size of one process.
        wall_seconds: From start to end.
        timed_out: Whether the time bound ended it.
        out_of_memory: Whether a memory bound ended it.
        left_processes: Whether processes of it live on.
        unwatched: Whether somebody killed its watcher: its tree is gone, and how it would have ended is unknown.
        machine_out_of_memory: Whether the kernel ended a process of the box, ever, though the box was within its bound.
    """

    exit_code: int | None = None
    signal: int | None = None
    failed_stage: Stage | None = None
    error_number: int = 0
    streams: Mapping[int, StreamEnd] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    wall_seconds: float = 0.0
    timed_out: bool = False
    out_of_memory: bool = False
    left_processes: bool = False
    unwatched: bool = False
    machine_out_of_memory: bool = False


def spec_fields(spec: JobSpec) -> list[tuple[int, Value]]:
    """Return a job as fields of START."""
    fields: list[tuple[int, Value]] = [(Tag.ARGUMENT, word) for word in spec.argv]
    fields += [(Tag.VARIABLE, f"{name}={value}") for name, value in spec.env.items()]
    fields.append((Tag.FOLDER, str(spec.cwd)))
    if spec.identity is not None:
        fields += [(Tag.UID, spec.identity.uid), (Tag.GID, spec.identity.gid)]
        fields += [(Tag.GROUP, group) for group in spec.identity.groups]
    if spec.timeout_seconds is not None:
        fields.append((Tag.TIMEOUT_MS, min(max(int(spec.timeout_seconds * 1000), 1), 0xFFFFFFFF)))
    if spec.memory_bytes:
        fields.append((Tag.MEMORY_BYTES, spec.memory_bytes))
    for number, bound in spec.rlimits.items():
        fields.append((Tag.LIMIT, number.to_bytes(8, "big") + bound.to_bytes(8, "big")))
    for descriptor, stream in spec.streams.items():
        numbers = (descriptor, stream.kept_bytes, 0 if stream.keeps_tail else 1)
        fields.append((Tag.STREAM, b"".join(number.to_bytes(8, "big") for number in numbers)))
    if spec.ends_leftovers:
        fields.append((Tag.LEFTOVERS, 1))
    if spec.no_new_privileges:
        fields.append((Tag.NO_NEW_PRIVILEGES, 1))
    return fields


class Job:
    """A program that was started; use `start_job`."""

    def __init__(self, client: AgentClient, name: str, input_sent: int) -> None:
        """Take the job's name, and how much input went with its start."""
        self.name = name
        self._client = client
        self._input_offset = input_sent
        self._signals = 0
        self.ended = False
        """Whether `wait` has told how it ended."""

    async def feed(self, data: bytes, *, ends: bool = False) -> bool:
        """Give the program input; returns when its pipe has taken all, with whether anybody still reads."""
        view = memoryview(data)
        while True:
            part, view = view[:_INPUT_BYTES], view[_INPUT_BYTES:]
            last = ends and not view
            fields = ((Tag.JOB, self.name), (Tag.OFFSET, self._input_offset), (Tag.DATA, bytes(part)), (Tag.END, last))
            reply = await self._client.ask(Kind.STDIN, encode_fields(fields))
            if reply.status == Status.NO_SUCH_JOB:
                return False
            raise_refusal(reply, Kind.STDIN)
            self._input_offset += len(part)
            if reply.fields.number(Tag.END):
                return False
            if not view:
                return True

    async def send_signal(self, number: int, *, whole_tree: bool = False) -> None:
        """Send a signal to the program, or to all that descend from it."""
        self._signals += 1
        fields = ((Tag.JOB, self.name), (Tag.SIGNAL, number), (Tag.TREE, int(whole_tree)), (Tag.SERIAL, self._signals))
        await self._client.request(Kind.SIGNAL, *fields)

    async def follow(self, descriptor: int) -> AsyncIterator[bytes]:
        """Give what the program writes as it comes, until it ends; what came too fast to be kept is missing."""
        offset = 0
        while True:
            fields = ((Tag.JOB, self.name), (Tag.DESCRIPTOR, descriptor), (Tag.OFFSET, offset))
            bounds = ((Tag.LENGTH, _READ_BYTES), (Tag.WAIT_MS, _WAIT_MS))
            reply = await self._client.request(Kind.READ, *fields, *bounds)
            data = reply.fields.data(Tag.DATA)
            offset = reply.fields.number(Tag.OFFSET) + len(data)
            if data:
                yield data
            if reply.fields.number(Tag.END):
                return

    async def wait(self) -> JobEnd:
        """Return how the job ended, when it has."""
        fields = encode_fields([(Tag.JOB, self.name), (Tag.WAIT_MS, _WAIT_MS), (Tag.INLINE_BYTES, _INLINE_BYTES)])
        while True:
            reply = await self._client.ask(Kind.WAIT, fields)
            raise_refusal(reply, Kind.WAIT)
            if reply.fields.number(Tag.STATE):
                return await self.collect(reply)

    async def collect(self, reply: Reply) -> JobEnd:
        """Return the end that a reply tells, with outputs that were too large for it."""
        streams: dict[int, StreamEnd] = {}
        for value in reply.fields.each(Tag.OUTPUT):
            descriptor, total, dropped, flags = (int.from_bytes(value[at : at + 8], "big") for at in range(0, 32, 8))
            if flags & 2:
                streams[descriptor] = StreamEnd(data=value[32:], dropped_bytes=dropped)
            else:
                data = await self._read_kept(descriptor, total)
                streams[descriptor] = StreamEnd(data=data, dropped_bytes=total - len(data))
        self.ended = True
        return _read_end(reply.fields, streams)

    async def _read_kept(self, descriptor: int, total: int) -> bytes:
        """Return what is kept of the first `total` bytes; what leftovers write later is no part of it."""
        parts: list[bytes] = []
        offset = 0
        while offset < total:
            fields = ((Tag.JOB, self.name), (Tag.DESCRIPTOR, descriptor), (Tag.OFFSET, offset))
            reply = await self._client.request(Kind.READ, *fields, (Tag.LENGTH, _READ_BYTES))
            offset = reply.fields.number(Tag.OFFSET)
            data = reply.fields.data(Tag.DATA)[: max(total - offset, 0)]
            offset += len(data)
            parts.append(data)
            if not data:
                break
        return b"".join(parts)


def _read_end(fields: Fields, streams: Mapping[int, StreamEnd]) -> JobEnd:
    flags = fields.number(Tag.FLAGS)
    stage = fields.number(Tag.STAGE)
    return JobEnd(
        exit_code=fields.number(Tag.CODE) if Tag.CODE in fields else None,
        signal=fields.number(Tag.SIGNAL) if Tag.SIGNAL in fields else None,
        failed_stage=Stage(stage) if stage else None,
        error_number=fields.number(Tag.ERRNO),
        streams=streams,
        cpu_seconds=fields.number(Tag.CPU_US) / 1e6,
        peak_memory_bytes=fields.number(Tag.PEAK_BYTES),
        wall_seconds=fields.number(Tag.WALL_US) / 1e6,
        timed_out=bool(flags & 1),
        out_of_memory=bool(flags & 2),
        left_processes=bool(flags & 4),
        unwatched=bool(flags & 8),
        machine_out_of_memory=bool(flags & 16),
    )


@asynccontextmanager
async def start_job(client: AgentClient, spec: JobSpec, *, stdin_open: bool = False) -> AsyncIterator[Job]:
    """Start a program for the length of the block; leaving it kills the program and frees what is kept of it.

    Raises:
        SandboxLostError: The sandbox is gone.
        OSError: The sandbox has no room for another process.
    """
    job = Job(client, client.new_name(), 0)
    try:
        await client.request(Kind.START, (Tag.JOB, job.name), *spec_fields(spec), (Tag.END, int(not stdin_open)))
        yield job
    finally:
        if not job.ended:
            await _kill(job)
        _forget(client, job)


async def run_job(client: AgentClient, spec: JobSpec, *, stdin: bytes = b"") -> JobEnd:
    """Run a program to its end, in one round trip where its input and output are small.

    If this raises or is cancelled the program's whole tree is killed.

    Raises:
        SandboxLostError: The sandbox is gone.
        SandboxRefusedError: Arguments and variables are more than a frame holds.
        OSError: The sandbox has no room for another process.
    """
    first, rest = stdin[:_FIRST_INPUT_BYTES], stdin[_FIRST_INPUT_BYTES:]
    job = Job(client, client.new_name(), len(first))
    waiting: tuple[tuple[int, Value], ...] = ((Tag.WAIT_MS, _WAIT_MS), (Tag.INLINE_BYTES, _INLINE_BYTES))
    given: tuple[tuple[int, Value], ...] = ((Tag.DATA, first), (Tag.END, int(not rest)))
    start = encode_fields([(Tag.JOB, job.name), *spec_fields(spec), *given, *waiting])
    try:
        if rest:
            return await _run_with_input(client, job, start, rest)
        return await _finish(job, await client.ask(Kind.START, start))
    finally:
        if not job.ended:
            await _kill(job)
        _forget(client, job)


async def _finish(job: Job, reply: Reply) -> JobEnd:
    raise_refusal(reply, Kind.START)
    return await job.collect(reply) if reply.fields.number(Tag.STATE) else await job.wait()


async def _run_with_input(client: AgentClient, job: Job, start: bytes, rest: bytes) -> JobEnd:
    async def feed() -> None:
        # Sent behind START on the same connection, so the job is there when this arrives.
        with suppress(SandboxLostError):  # who waits for the end is told, too
            await job.feed(rest, ends=True)

    async with as_raised(), anyio.create_task_group() as group:
        group.start_soon(feed)
        reply = await client.ask(Kind.START, start)
        if reply.status != Status.OK or reply.fields.number(Tag.STATE):
            group.cancel_scope.cancel()
    return await _finish(job, reply)


async def _kill(job: Job) -> None:
    """Kill the job's tree and wait, for a while, until it is gone."""
    with anyio.CancelScope(shield=True), anyio.move_on_after(_KILL_SECONDS), suppress(BoundaryError, OSError):
        await job.send_signal(signals.SIGKILL, whole_tree=True)
        await job.wait()


def _forget(client: AgentClient, job: Job) -> None:
    with suppress(BoundaryError):
        client.forget(job.name)


def is_missing(end: JobEnd) -> bool:
    """Return whether the program was not found."""
    return end.failed_stage is Stage.PROGRAM and end.error_number in {errno.ENOENT, errno.ENOTDIR}
