"""An agent, for as long as this driver holds it: requests in any number at once over one connection that mends itself.

Every request of the protocol can be sent again and then has happened once. So when the connection is cut, a new one
resumes the claim and all requests without a reply are sent again; who waits for a reply notices nothing. When the
agent cannot be reached within its lease it has ended by itself, and every request raises SandboxLostError.
"""

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio

from envfarm.errors import BoundaryError, SandboxLostError, SandboxRefusedError, SandboxStartError, only_error
from envfarm.sandbox.client.frames import (
    FRAME_LIMIT,
    HEADER_SIZE,
    TAG_SIZE,
    Fields,
    Frame,
    Kind,
    Status,
    Tag,
    Value,
    encode_fields,
)
from envfarm.sandbox.client.link import AgentFacts, Claim, Link, LinkCutError, join
from envfarm.sandbox.client.roads import Road
from envfarm.sandbox.one_error import as_raised

_PING_SECONDS = 20.0
_PINGS_PER_LEASE = 3
_RETRY_SECONDS = 0.01
_RETRY_MOST_SECONDS = 1.0
_JOIN_SECONDS = 10.0
_END_SECONDS = 15.0
_FORGET_TOGETHER = 32


class Reply:
    """What an agent answered."""

    __slots__ = ("bulk", "fields", "status")

    def __init__(self, frame: Frame) -> None:
        """Read the fields of the frame."""
        self.status = frame.status
        self.fields = Fields(frame.fields)
        self.bulk = frame.bulk


class Pending:
    """A request that was sent; use `AgentClient.post`."""

    __slots__ = ("bulk", "done", "fields", "kind", "reply")

    def __init__(self, kind: int, fields: bytes, bulk: bytes, done: anyio.Event | None) -> None:
        self.kind = kind
        self.fields = fields
        self.bulk = bulk
        self.done = done
        self.reply: Reply | None = None


class AgentClient:
    """An agent that this driver holds; use `open_agent`."""

    def __init__(self, road: Road, claim: Claim, link: Link) -> None:
        """Take the road to the agent and the first connection, which has bound it."""
        self.facts: AgentFacts = link.facts
        self.road_is_private = road.is_private
        """Whether content need not be hashed on its way."""
        self._road = road
        self._claim = claim
        self._link: Link | None = link
        self._pending: dict[int, Pending] = {}
        self._numbers = itertools.count(1)
        self._names = itertools.count(1)
        self._prefix = os.urandom(6).hex()
        self._forgotten: list[str] = []
        self._heard = anyio.current_time()
        self._lost_because: str | None = None
        self.cuts = 0
        """How often the connection was cut."""
        self.lost = anyio.Event()
        """Set once the agent is gone, or cannot be reached for as long as its lease."""

    def new_name(self) -> str:
        """Return a name for a job or an upload that this agent has not heard before."""
        return f"{self._prefix}-{next(self._names)}"

    async def ask(self, kind: Kind, fields: bytes = b"", bulk: bytes = b"") -> Reply:
        """Send a request and return its reply, whatever its status.

        If this is cancelled the request may be performed all the same.

        Raises:
            SandboxLostError: The agent is gone.
            SandboxRefusedError: The request is larger than a frame may be; nothing was sent.
        """
        self._flush_forgotten()
        return await self.reply_to(self.post(kind, fields, bulk))

    def post(self, kind: Kind, fields: bytes = b"", bulk: bytes = b"") -> "Pending":
        """Send a request behind those that were sent before, and return what to await with `reply_to`.

        Raises:
            SandboxLostError: The agent is gone.
            SandboxRefusedError: The request is larger than a frame may be; nothing was sent.
        """
        return self._send(kind, fields, bulk, anyio.Event())

    async def reply_to(self, pending: "Pending") -> Reply:
        """Return the reply to a request, whatever its status.

        Raises:
            SandboxLostError: The agent is gone.
        """
        if pending.done is not None:
            await pending.done.wait()
        if pending.reply is None:
            raise SandboxLostError(self._lost_because or "the sandbox is gone")
        return pending.reply

    async def request(self, kind: Kind, *fields: tuple[int, Value], bulk: bytes = b"") -> Reply:
        """Send a request and return its reply.

        Raises:
            SandboxLostError: The agent is gone.
            OSError: The kernel of the sandbox refused; the error number is the one there.
            SandboxRefusedError: The agent refused.
        """
        reply = await self.ask(kind, encode_fields(fields), bulk)
        raise_refusal(reply, kind)
        return reply

    def forget(self, job: str) -> None:
        """Let the agent free what it keeps of a job, with the next request or ping; kills it if it runs."""
        self._forgotten.append(job)
        if len(self._forgotten) >= _FORGET_TOGETHER:
            self._flush_forgotten()

    def forget_now(self, job: str) -> None:
        """Do the same at once."""
        self._forgotten.append(job)
        self._flush_forgotten()

    def _flush_forgotten(self) -> None:
        if self._forgotten and self._lost_because is None:
            names, self._forgotten = self._forgotten, []
            self._send(Kind.FORGET, encode_fields((Tag.JOB, name) for name in names), b"", None)

    def _send(self, kind: int, fields: bytes, bulk: bytes, done: anyio.Event | None) -> Pending:
        if self._lost_because is not None:
            raise SandboxLostError(self._lost_because)
        size = HEADER_SIZE + len(fields) + len(bulk) + TAG_SIZE
        if size > FRAME_LIMIT:  # the agent would close the connection, and each new one that brings it again
            message = f"a request of {size} bytes is more than the {FRAME_LIMIT} bytes that an agent takes at once"
            raise SandboxRefusedError(message)
        number = next(self._numbers) & 0xFFFFFFFF
        pending = self._pending[number] = Pending(kind, fields, bulk, done)
        if self._link is not None:
            self._link.queue(number, kind, fields, bulk)
        return pending

    def _take(self, frame: Frame) -> None:
        self._heard = anyio.current_time()
        pending = self._pending.pop(frame.request, None)
        if pending is not None and pending.done is not None:
            pending.reply = Reply(frame)
            pending.done.set()

    def close(self) -> None:
        """Let every request from now on raise SandboxLostError; the connection is the block's of `open_agent`."""
        if self._lost_because is None:
            self._lose("the lease of the sandbox has ended")

    def _lose(self, because: str) -> None:
        self._lost_because = because
        self._link = None
        for pending in self._pending.values():
            if pending.done is not None:
                pending.done.set()
        self._pending.clear()
        self.lost.set()

    async def _run(self) -> None:
        """Keep the connection up until the agent is lost."""
        try:
            while self._link is not None:
                await self._use(self._link)
                self._link = None
                self._link = await self._resume()
                for number, pending in self._pending.items():
                    self._link.queue(number, pending.kind, pending.fields, pending.bulk)
        except BoundaryError as error:
            self._lose(str(error))

    async def _use(self, link: Link) -> None:
        """Use a connection until it is cut."""
        silence = self._ping_seconds() * 2 + _JOIN_SECONDS
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(link.send)
                group.start_soon(self._ping)
                await link.receive(self._take, silence_seconds=silence)
        except* LinkCutError:
            self.cuts += 1
        except* SandboxLostError as group_error:
            raise only_error(group_error) from group_error
        finally:
            await link.close()

    def _ping_seconds(self) -> float:
        return min(_PING_SECONDS, self._claim.lease_seconds / _PINGS_PER_LEASE)

    async def _ping(self) -> None:
        while True:
            await anyio.sleep(self._ping_seconds())
            self._flush_forgotten()
            self._send(Kind.PING, b"", b"", None)

    async def _resume(self) -> Link:
        pause = _RETRY_SECONDS
        while anyio.current_time() < self._heard + self._claim.lease_seconds:
            try:
                return await self._resume_once()
            except (FileNotFoundError, ConnectionRefusedError) as error:
                message = f"the sandbox has ended: {error}"
                raise SandboxLostError(message) from error
            except (OSError, LinkCutError):
                await anyio.sleep(pause)
                pause = min(pause * 2, _RETRY_MOST_SECONDS)
        message = "the sandbox could not be reached within its lease, and has ended by itself"
        raise SandboxLostError(message)

    async def _resume_once(self) -> Link:
        link = await _join_within(self._road, self._claim, resume=True, seconds=_JOIN_SECONDS)
        if link.facts.instance != self.facts.instance:
            await link.close()
            message = "the agent of the sandbox is another one than before"
            raise SandboxLostError(message)
        return link

    async def end(self) -> None:
        """Kill everything in the sandbox and end the agent; nothing is left when this returns without an error.

        Raises:
            SandboxLostError: The agent was gone already.
        """
        await self.request(Kind.END)


async def _join_within(road: Road, claim: Claim, *, resume: bool, seconds: float) -> Link:
    with anyio.move_on_after(seconds):
        stream = await road.connect()
        try:
            return await join(stream, claim, resume=resume)
        except BaseException:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await stream.aclose()
            raise
    message = f"the agent did not answer within {seconds:.0f} s"
    raise LinkCutError(message)


async def _bind(road: Road, claim: Claim, start_seconds: float) -> Link:
    pause, deadline = _RETRY_SECONDS / 4, anyio.current_time() + start_seconds
    while True:
        left = deadline - anyio.current_time()
        try:
            return await _join_within(road, claim, resume=False, seconds=max(left, 0.01))
        except (OSError, LinkCutError, SandboxLostError) as error:
            if isinstance(error, SandboxLostError) or left <= pause:
                message = f"the agent of the sandbox cannot be reached: {error}"
                raise SandboxStartError(message) from error
        await anyio.sleep(pause)
        pause = min(pause * 2, _RETRY_MOST_SECONDS / 4)


@asynccontextmanager
async def open_agent(
    road: Road, claim: Claim, *, start_seconds: float = 30.0, ends_agent: bool = True
) -> AsyncIterator[AgentClient]:
    """Claim an agent and hold it for the length of the block; leaving it ends the agent and all that runs there.

    Args:
        road: How the agent is reached; it need not listen yet.
        claim: Who claims it, and for how long at a time.
        start_seconds: How long to wait for it to listen.
        ends_agent: False leaves it to whoever resumes the claim within the lease.

    Raises:
        SandboxStartError: It could not be reached in time.
        SandboxTakenError: It is claimed already.
    """
    client = AgentClient(road, claim, await _bind(road, claim, start_seconds))
    async with as_raised(), anyio.create_task_group() as group:
        running = anyio.CancelScope(shield=True)
        group.start_soon(_run_in, running, client)
        try:
            yield client
        finally:
            if ends_agent:
                with anyio.CancelScope(shield=True), anyio.move_on_after(_END_SECONDS), suppress(BoundaryError):
                    await client.end()
            running.cancel()
            client.close()


async def _run_in(scope: anyio.CancelScope, client: AgentClient) -> None:
    """Keep the connection up also while the block is being cancelled: its jobs are ended through it."""
    with scope:
        await client._run()  # noqa: SLF001 -- one class in two halves


def raise_refusal(reply: Reply, kind: Kind) -> None:
    """Raise what a reply that is not OK stands for.

    Raises:
        OSError: The kernel of the sandbox refused.
        SandboxRefusedError: The agent refused.
        SandboxLostError: The agent is on its way out.
    """
    if reply.status == Status.OK:
        return
    if reply.status == Status.SYSTEM:
        number = reply.fields.number(Tag.ERRNO)
        raise OSError(number, os.strerror(number))
    if reply.status == Status.ENDING:
        message = "the sandbox is ending"
        raise SandboxLostError(message)
    name = Status(reply.status).name if reply.status in Status.__members__.values() else str(reply.status)
    message = f"the agent refused {kind.name}: {name}, {reply.fields.text(Tag.MESSAGE)}"
    raise SandboxRefusedError(message)
