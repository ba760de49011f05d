"""Moves files in and out of a sandbox; a path shows the old content or the new, never a part.

Errors of the sandbox's kernel are OSError with its number: FileNotFoundError, PermissionError, no space left.
"""

import hashlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import PurePosixPath

from envfarm.errors import BoundaryError, SandboxLostError
from envfarm.sandbox.client.connection import AgentClient, Pending, Reply, raise_refusal
from envfarm.sandbox.client.frames import Fields, Kind, Tag, Value, encode_fields

CHUNK_BYTES = 1 << 20
"""Most content of one frame."""
PART_BYTES = 1 << 17
"""Content of one frame of an upload: what was just read is sent, received and written while a cache still holds it."""
_BATCH_ENTRIES = 2000
_NO_DIGEST = bytes(32)  # of no content: the agent drops an upload that is committed with it
_UP_BYTES, _DOWN_BYTES, _FAR_BYTES = 1 << 20, 2 << 20, 4 << 20
"""Content on the way, so that neither end waits for the other: within this machine no more than its caches hold."""


class FileKind(IntEnum):
    """What a path is."""

    FILE = 1
    FOLDER = 2
    LINK = 3
    OTHER = 4


@dataclass(frozen=True, kw_only=True)
class Acting:
    """Whom the agent acts as, without other groups; what this user may not do fails."""

    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Whom a new file belongs to, where it is another than the user who makes it."""

    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Something to be placed in a sandbox.

    Attributes:
        path: Absolute; missing parents are made.
        kind: A file, a folder or a symbolic link.
        content: Of a file.
        mode: Of a file or a folder.
        target: Of a link.
        owner: Where it is not who makes it.
    """

    path: PurePosixPath
    kind: FileKind = FileKind.FILE
    content: bytes = b""
    mode: int = 0o644
    target: str = ""
    owner: Owner | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """What `list_folder` and `stat` tell; `name` is as it was asked for, or a name within the folder."""

    name: str
    kind: FileKind
    mode: int
    size_bytes: int
    modified_ns: int
    uid: int
    gid: int
    target: str


def _unhashed(client: AgentClient) -> list[tuple[int, Value]]:
    return [(Tag.UNHASHED, 1)] if client.road_is_private else []


def _acting(acting: Acting | None) -> list[tuple[int, Value]]:
    return [] if acting is None else [(Tag.UID, acting.uid), (Tag.GID, acting.gid)]


def _owned(owner: Owner | None) -> list[tuple[int, Value]]:
    return [] if owner is None else [(Tag.OWNER_UID, owner.uid), (Tag.OWNER_GID, owner.gid)]


def _entry_fields(entry: Entry) -> bytes:
    fields: list[tuple[int, Value]] = [(Tag.PATH, str(entry.path)), (Tag.FILE_KIND, int(entry.kind))]
    if entry.kind is FileKind.FILE:
        fields += [(Tag.SIZE, len(entry.content)), (Tag.MODE, entry.mode)]
    elif entry.kind is FileKind.FOLDER:
        fields.append((Tag.MODE, entry.mode))
    else:
        fields.append((Tag.TARGET, entry.target))
    return encode_fields(fields + _owned(entry.owner))


async def put(client: AgentClient, entries: Iterable[Entry], *, acting: Acting | None = None) -> None:
    """Place files, folders and links, in order, in as few round trips as they fit in.

    What stands before the first that fails is done, each file whole; the error's `filename` is the one that failed.

    Raises:
        OSError: The kernel of the sandbox refused one.
        SandboxLostError: The sandbox is gone.
    """
    batch: list[tuple[Entry, bytes]] = []
    size = 0
    for entry in entries:
        if len(entry.content) > CHUNK_BYTES:
            await _put_batch(client, batch, acting)
            batch, size = [], 0
            chunks = _chunks_of(entry.content)
            await upload(client, entry, chunks, size_bytes=len(entry.content), acting=acting)
            continue
        fields = _entry_fields(entry)
        if size + len(fields) + len(entry.content) > CHUNK_BYTES or len(batch) == _BATCH_ENTRIES:
            await _put_batch(client, batch, acting)
            batch, size = [], 0
        batch.append((entry, fields))
        size += len(fields) + len(entry.content)
    await _put_batch(client, batch, acting)


async def _chunks_of(content: bytes) -> AsyncIterator[bytes]:
    view = memoryview(content)
    for at in range(0, len(content), PART_BYTES):
        yield bytes(view[at : at + PART_BYTES])


async def _put_batch(client: AgentClient, batch: Sequence[tuple[Entry, bytes]], acting: Acting | None) -> None:
    if not batch:
        return
    bulk = b"".join(entry.content for entry, _ in batch)
    fields: list[tuple[int, Value]] = [(Tag.ENTRY, entry_fields) for _, entry_fields in batch]
    fields.append((Tag.DIGEST, hashlib.sha256(bulk).digest()))
    reply = await client.ask(Kind.PUT, encode_fields(fields + _acting(acting)), bulk)
    done = reply.fields.number(Tag.OFFSET)
    _raise_for(reply, Kind.PUT, str(batch[min(done, len(batch) - 1)][0].path))


def _raise_for(reply: Reply, kind: Kind, path: str) -> None:
    try:
        raise_refusal(reply, kind)
    except OSError as error:
        error.filename = path
        raise


async def _ask(client: AgentClient, kind: Kind, path: PurePosixPath | str, *fields: tuple[int, Value]) -> Reply:
    reply = await client.ask(kind, encode_fields([(Tag.PATH, str(path)), *fields]))
    _raise_for(reply, kind, str(path))
    return reply


async def upload(
    client: AgentClient,
    entry: Entry,
    chunks: AsyncIterable[bytes],
    *,
    size_bytes: int,
    acting: Acting | None = None,
) -> None:
    """Place one file of any size, without holding it in memory; chunks of `PART_BYTES` are fastest, `CHUNK_BYTES` most.

    If this raises or is cancelled the agent is told to give the upload up; only a cancellation between the last chunk
    and the answer may still find the new file in place.

    Raises:
        OSError: The kernel of the sandbox refused; nothing is at the path but what was there.
        SandboxRefusedError: The chunks do not have `size_bytes` together.
        SandboxLostError: The sandbox is gone.
    """
    name = client.new_name()
    fields: list[tuple[int, Value]] = [(Tag.UPLOAD, name), (Tag.MODE, entry.mode), (Tag.SIZE, size_bytes)]
    try:
        more = [*_owned(entry.owner), *_acting(acting), *_unhashed(client)]
        await _ask(client, Kind.UPLOAD, entry.path, *fields, *more)
        await _send_chunks(client, name, entry, chunks)
    except BaseException:
        with suppress(BoundaryError):  # an agent that is gone has given up everything
            client.post(Kind.COMMIT, encode_fields([(Tag.UPLOAD, name), (Tag.DIGEST, _NO_DIGEST)]))
        raise


async def _send_chunks(client: AgentClient, name: str, entry: Entry, chunks: AsyncIterable[bytes]) -> None:
    digest = None if client.road_is_private else hashlib.sha256()
    offset = 0
    window: deque[Pending] = deque()
    most = _UP_BYTES if client.road_is_private else _FAR_BYTES
    on_the_way = 0
    async for chunk in chunks:
        if digest is not None:
            digest.update(chunk)
        window.append(client.post(Kind.DATA, encode_fields([(Tag.UPLOAD, name), (Tag.OFFSET, offset)]), chunk))
        offset += len(chunk)
        on_the_way += len(chunk)
        while len(window) > 1 and on_the_way >= most:
            first = window.popleft()
            _raise_for(await client.reply_to(first), Kind.DATA, str(entry.path))
            on_the_way -= len(first.bulk)
    for pending in window:
        _raise_for(await client.reply_to(pending), Kind.DATA, str(entry.path))
    end: list[tuple[int, Value]] = [(Tag.UPLOAD, name)]
    if digest is not None:
        end.append((Tag.DIGEST, digest.digest()))
    _raise_for(await client.ask(Kind.COMMIT, encode_fields(end)), Kind.COMMIT, str(entry.path))


def _checked(reply: Reply) -> bytes:
    if hashlib.sha256(reply.bulk).digest() != reply.fields.data(Tag.DIGEST):
        message = "content that came from the sandbox was changed on the way"
        raise SandboxLostError(message)
    return reply.bulk


async def download(
    client: AgentClient, path: PurePosixPath, *, limit_bytes: int | None = None, acting: Acting | None = None
) -> AsyncIterator[bytes]:
    """Give the content of a regular file in chunks; of a file of /proc the first `CHUNK_BYTES`.

    Raises:
        FileNotFoundError: There is no such regular file; folders, pipes and devices are none.
        ValueError: It is larger than `limit_bytes`, or it changed while it was read.
        SandboxLostError: The sandbox is gone.
    """
    asked = 0
    window: deque[Pending] = deque()
    first: list[int] | None = None
    most = (_DOWN_BYTES if client.road_is_private else _FAR_BYTES) // CHUNK_BYTES
    while True:
        while len(window) < (1 if first is None else most) and (first is None or asked < first[0]):
            fields: list[tuple[int, Value]] = [(Tag.PATH, str(path)), (Tag.OFFSET, asked), (Tag.LENGTH, CHUNK_BYTES)]
            fields += [*_acting(acting), *_unhashed(client)]
            window.append(client.post(Kind.GET, encode_fields(fields)))
            asked += CHUNK_BYTES
        if not window:
            return
        reply = await client.reply_to(window.popleft())
        _raise_for(reply, Kind.GET, str(path))
        seen = [reply.fields.number(tag) for tag in (Tag.SIZE, Tag.INODE, Tag.DEVICE, Tag.MTIME_NS)]
        if first not in (None, seen):
            message = f"{path} changed while it was read"
            raise ValueError(message)
        first = seen
        content = reply.bulk if client.road_is_private else _checked(reply)
        if limit_bytes is not None and max(seen[0], len(content)) > limit_bytes:
            message = f"{path} is larger than {limit_bytes} bytes"
            raise ValueError(message)
        if content:
            yield content


async def get(client: AgentClient, path: PurePosixPath, *, limit_bytes: int, acting: Acting | None = None) -> bytes:
    """Return the content of a regular file; see `download`."""
    return b"".join([chunk async for chunk in download(client, path, limit_bytes=limit_bytes, acting=acting)])


async def fetch(
    client: AgentClient, paths: Sequence[PurePosixPath], *, limit_bytes: int, acting: Acting | None = None
) -> list[bytes | OSError]:
    """Return many small files in as few round trips as they fit in; one that cannot be read is its error.

    Raises:
        ValueError: One is larger than `limit_bytes`.
        SandboxLostError: The sandbox is gone.
    """
    contents: list[bytes | OSError] = []
    while len(contents) < len(paths):
        wanted = _first_batch(paths[len(contents) : len(contents) + _BATCH_ENTRIES])
        fields: list[tuple[int, Value]] = [(Tag.PATH, str(path)) for path in wanted]
        reply = await client.request(Kind.FETCH, *fields, (Tag.LENGTH, CHUNK_BYTES), *_acting(acting))
        view = memoryview(_checked(reply))
        before = len(contents)
        for path, entry in zip(wanted, reply.fields.entries(), strict=False):
            size = entry.number(Tag.SIZE)
            if entry.number(Tag.ERRNO):
                contents.append(OSError(entry.number(Tag.ERRNO), "cannot be read in the sandbox", str(path)))
            elif size > limit_bytes:
                message = f"{path} is larger than {limit_bytes} bytes"
                raise ValueError(message)
            elif entry.number(Tag.END):
                contents.append(bytes(view[:size]))
                view = view[size:]
            else:
                break
        if len(contents) == before:  # the first alone is too large for one frame
            contents.append(await get(client, wanted[0], limit_bytes=limit_bytes, acting=acting))
    return contents


def _first_batch(paths: Sequence[PurePosixPath]) -> Sequence[PurePosixPath]:
    """Return those at the beginning, one at least, whose names together leave room in a frame."""
    size = 0
    for count, path in enumerate(paths):
        size += len(encode_fields([(Tag.PATH, str(path))]))
        if size > CHUNK_BYTES and count:
            return paths[:count]
    return paths


def _found(fields: Fields) -> Found:
    return Found(
        name=fields.text(Tag.PATH),
        kind=FileKind(fields.number(Tag.FILE_KIND)),
        mode=fields.number(Tag.MODE),
        size_bytes=fields.number(Tag.SIZE),
        modified_ns=fields.number(Tag.MTIME_NS),
        uid=fields.number(Tag.OWNER_UID),
        gid=fields.number(Tag.OWNER_GID),
        target=fields.text(Tag.TARGET),
    )


async def list_folder(client: AgentClient, path: PurePosixPath, *, acting: Acting | None = None) -> list[Found]:
    """Return what is in a folder, by name; what comes and goes meanwhile may be missing.

    Raises:
        OSError: It is no folder, or may not be read.
        SandboxLostError: The sandbox is gone.
    """
    found: list[Found] = []
    cursor = 0
    while True:
        reply = await _ask(client, Kind.LIST, path, (Tag.CURSOR, cursor), *_acting(acting))
        found += [_found(entry) for entry in reply.fields.entries()]
        cursor = reply.fields.number(Tag.CURSOR)
        if not cursor:
            return sorted(found, key=lambda item: item.name)


async def stat(
    client: AgentClient, path: PurePosixPath, *, follows_links: bool = False, acting: Acting | None = None
) -> Found:
    """Return what a path is.

    Raises:
        OSError: There is nothing, or it may not be seen.
        SandboxLostError: The sandbox is gone.
    """
    reply = await _ask(client, Kind.STAT, path, (Tag.FOLLOW, int(follows_links)), *_acting(acting))
    return next(_found(entry) for entry in reply.fields.entries())


async def remove(
    client: AgentClient, path: PurePosixPath, *, recursive: bool = False, acting: Acting | None = None
) -> None:
    """Make the path absent, if it is not; links are removed, never followed.

    Raises:
        OSError: It cannot be removed; of a tree a part may be gone.
        SandboxLostError: The sandbox is gone.
    """
    await _ask(client, Kind.REMOVE, path, (Tag.RECURSIVE, int(recursive)), *_acting(acting))
