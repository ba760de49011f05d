"""One connection to an agent: joins, then sends requests and gives back replies, each tagged and counted.

A link does not live on after a cut; `connection` makes a new one and sends again what has no reply.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from anyio.abc import ByteStream

from envfarm.errors import SandboxLostError, SandboxTakenError
from envfarm.sandbox.client.frames import (
    FRAME_LIMIT,
    KEY_SIZE,
    NONCE_SIZE,
    REPLY,
    VERSION,
    Fields,
    Frame,
    FrameError,
    FrameReader,
    Keys,
    Kind,
    Status,
    Tag,
    derive_keys,
    encode_fields,
    encode_frame,
    frame_parts,
)

_CHUNK_BYTES = 1 << 20
_BATCH_BYTES = 1 << 20
_COPIED_BYTES = 1 << 15


class LinkCutError(Exception):
    """The stream ended or failed; the agent may live on."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What this driver holds an agent by.

    Attributes:
        name: Up to 128 bytes; who asks for a claimed agent is told it.
        key: 32 bytes that nobody else knows.
        lease_seconds: The agent ends by itself when it has heard nothing for as long.
    """

    name: str
    key: bytes
    lease_seconds: float

    def __post_init__(self) -> None:
        if len(self.key) != KEY_SIZE or not 1 <= len(self.name.encode()) <= 128:  # noqa: PLR2004 -- the protocol's
            message = f"a claim has a name of 1 to 128 bytes and a key of {KEY_SIZE} bytes"
            raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class AgentFacts:
    """What an agent says of itself.

    Attributes:
        instance: The same for as long as the agent's process lives.
        implementation: ``c`` or ``python``.
        is_first_process: Whether it is process 1 of its namespace.
        sees_processes: Whether it can find a job's whole tree; else it can signal process groups only.
        is_root: Whether it can run jobs as other users.
    """

    instance: bytes
    implementation: str
    is_first_process: bool
    sees_processes: bool
    is_root: bool


class Link:
    """A joined connection; use `join`."""

    def __init__(self, stream: ByteStream, reader: FrameReader, facts: AgentFacts, keys: Keys, sent: int) -> None:
        """Take a stream on which the first `sent` tagged frames went out."""
        self.facts = facts
        self._stream = stream
        self._reader = reader
        self._keys = keys
        self._sent = sent
        self._received = 0
        self._queue: list[tuple[int, int, bytes, bytes]] = []
        self._queued = anyio.Event()

    def queue(self, request: int, kind: int, fields: bytes, bulk: bytes) -> None:
        """Send a request with the next batch."""
        self._queue.append((request, kind, fields, bulk))
        self._queued.set()

    async def send(self) -> None:
        """Send what is queued, for ever.

        Raises:
            LinkCutError: The stream is cut.
        """
        while True:
            await self._queued.wait()
            self._queued = anyio.Event()
            while self._queue:
                for piece in self._take_batch():
                    await _send(self._stream, piece)

    def _take_batch(self) -> list[bytes]:
        """Return what is sent next, in pieces: small frames together, large content by itself and as it is."""
        pieces: list[bytes] = []
        small: list[bytes] = []
        size = taken = 0
        for request, kind, fields, bulk in self._queue:
            if size >= _BATCH_BYTES:
                break
            head, _, tag = frame_parts(kind, fields, bulk, request=request, key=self._keys.to_agent, counter=self._sent)
            if len(bulk) < _COPIED_BYTES:
                small += (head, bulk, tag)
            else:
                pieces += (b"".join([*small, head]), bulk)
                small = [tag]
            self._sent += 1
            size += len(head) + len(bulk)
            taken += 1
        del self._queue[:taken]
        return [*pieces, b"".join(small)]

    async def receive(self, take: Callable[[Frame], None], *, silence_seconds: float) -> None:
        """Give every reply to `take`, for ever.

        Raises:
            LinkCutError: The stream is cut, or nothing came for `silence_seconds`.
            SandboxLostError: What came is not the agent's.
        """
        data = b""
        while True:
            try:
                for frame in self._reader.add(data):
                    self._check(frame)
                    take(frame)
            except FrameError as error:
                raise SandboxLostError(str(error)) from error
            with anyio.move_on_after(silence_seconds) as scope:
                data = await _receive(self._stream)
            if scope.cancelled_caught:
                message = "the agent is silent"
                raise LinkCutError(message)

    def _check(self, frame: Frame) -> None:
        if not frame.is_tagged_by(self._keys.from_agent) or frame.counter != self._received:
            message = "an answer is not the agent's: its tag or its counter is wrong"
            raise SandboxLostError(message)
        self._received += 1

    def take_join(self, frame: Frame) -> None:
        """Take the reply to BIND or RESUME.

        Raises:
            SandboxTakenError: Another claim has the agent.
            SandboxLostError: The agent refuses, or is an impostor.
        """
        if frame.status == Status.HELD:
            raise SandboxTakenError(Fields(frame.fields).text(Tag.CLAIM))
        if frame.status != Status.OK or not frame.kind & REPLY:
            message = f"the agent refuses this driver: {_name_of(frame.status)}"
            raise SandboxLostError(message)
        self._check(frame)

    async def close(self) -> None:
        """Close the stream, without waiting for anything."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(1):
            await self._stream.aclose()


async def join(stream: ByteStream, claim: Claim, *, resume: bool) -> Link:
    """Bind the agent behind a fresh stream, or resume what is bound.

    Raises:
        LinkCutError: The stream was cut meanwhile.
        SandboxTakenError: Another claim has the agent.
        SandboxLostError: The agent speaks another language, or refuses.
    """
    reader = FrameReader()
    try:
        hello = await _first_frame(stream, reader)
        greeting = Fields(hello.fields)
        if hello.kind != Kind.HELLO or greeting.number(Tag.VERSION) != VERSION:
            message = f"the agent speaks version {greeting.number(Tag.VERSION)} of the protocol, not {VERSION}"
            raise SandboxLostError(message)
        if greeting.number(Tag.FRAME_LIMIT) < FRAME_LIMIT:
            message = "the agent takes smaller frames than its version says"
            raise SandboxLostError(message)
        nonce = os.urandom(NONCE_SIZE)
        keys = derive_keys(claim.key, agent_nonce=greeting.data(Tag.NONCE), client_nonce=nonce, claim=claim.name)
        fields: list[tuple[int, bytes | str | int]] = [(Tag.CLAIM, claim.name), (Tag.NONCE, nonce)]
        fields.append((Tag.LEASE_MS, max(int(claim.lease_seconds * 1000), 1)))
        if resume:
            frame = encode_frame(Kind.RESUME, encode_fields(fields), key=keys.to_agent)
        else:
            frame = encode_frame(Kind.BIND, encode_fields([*fields, (Tag.KEY, claim.key)]))
        await _send(stream, frame)
        link = Link(stream, reader, _facts_of(greeting), keys, sent=1 if resume else 0)
        link.take_join(await _first_frame(stream, reader))
    except FrameError as error:
        raise SandboxLostError(str(error)) from error
    return link


def _facts_of(greeting: Fields) -> AgentFacts:
    facts = greeting.number(Tag.FACTS)
    return AgentFacts(
        instance=greeting.data(Tag.INSTANCE),
        implementation=greeting.text(Tag.IMPLEMENTATION),
        is_first_process=bool(facts & 1),
        sees_processes=bool(facts & 2),
        is_root=bool(facts & 4),
    )


def _name_of(status: int) -> str:
    return Status(status).name if status in Status.__members__.values() else str(status)


async def _first_frame(stream: ByteStream, reader: FrameReader) -> Frame:
    """Return the next frame; only for a stream that sends no second one before it is answered."""
    data = b""
    while True:
        for frame in reader.add(data):
            return frame
        data = await _receive(stream)


async def _receive(stream: ByteStream) -> bytes:
    try:
        return await stream.receive(_CHUNK_BYTES)
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
        raise LinkCutError(str(error)) from error


async def _send(stream: ByteStream, data: bytes) -> None:
    try:
        await stream.send(data)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
        raise LinkCutError(str(error)) from error
