"""Frames and fields of the agent's protocol, version 1. PURE: `agent/PROTOCOL.md` is what this file follows."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from hmac import compare_digest, digest

VERSION = 1
TAG_SIZE = 32
KEY_SIZE = 32
NONCE_SIZE = 16
FRAME_LIMIT = 4 << 20
TAGGED = 1
REPLY = 0x80
MAY_BE_IGNORED = 0x80

_HEADER = struct.Struct(">IBBHIIQ")
_FIELD = struct.Struct(">BI")
_NUMBER = struct.Struct(">Q")
HEADER_SIZE = _HEADER.size


class Kind(IntEnum):
    """What a frame asks for."""

    HELLO = 1
    BIND = 2
    RESUME = 3
    PING = 4
    END = 5
    START = 16
    WAIT = 17
    READ = 18
    STDIN = 19
    SIGNAL = 20
    FORGET = 21
    JOBS = 22
    PUT = 32
    UPLOAD = 33
    DATA = 34
    COMMIT = 35
    GET = 36
    FETCH = 37
    LIST = 38
    STAT = 39
    REMOVE = 40


class Status(IntEnum):
    """How a request went."""

    OK = 0
    MALFORMED = 1
    UNKNOWN_KIND = 2
    NOT_BOUND = 3
    HELD = 4
    BAD_TAG = 5
    BAD_COUNTER = 6
    TOO_LARGE = 7
    NO_SUCH_JOB = 8
    CONFLICT = 9
    SYSTEM = 10
    BAD_DIGEST = 11
    NO_ROOM = 12
    ENDING = 13
    NO_SUCH_UPLOAD = 14


class Tag(IntEnum):
    """What a field holds."""

    MESSAGE = 1
    ERRNO = 2
    VERSION = 3
    NONCE = 4
    INSTANCE = 5
    FRAME_LIMIT = 6
    IMPLEMENTATION = 7
    CLAIM = 8
    KEY = 9
    LEASE_MS = 10
    FACTS = 11
    JOB = 16
    ARGUMENT = 17
    VARIABLE = 18
    FOLDER = 19
    UID = 20
    GID = 21
    GROUP = 22
    TIMEOUT_MS = 23
    LIMIT = 24
    MEMORY_BYTES = 25
    STREAM = 26
    DATA = 27
    END = 28
    LEFTOVERS = 29
    NO_NEW_PRIVILEGES = 30
    WAIT_MS = 31
    INLINE_BYTES = 32
    DESCRIPTOR = 33
    OFFSET = 34
    SIGNAL = 35
    TREE = 36
    SERIAL = 37
    STATE = 38
    CODE = 40
    STAGE = 41
    CPU_US = 42
    PEAK_BYTES = 43
    WALL_US = 44
    FLAGS = 45
    OUTPUT = 46
    DROPPED = 47
    PATH = 64
    MODE = 65
    SIZE = 66
    OWNER_UID = 67
    OWNER_GID = 68
    DIGEST = 69
    UPLOAD = 70
    LENGTH = 71
    CURSOR = 72
    FOLLOW = 73
    RECURSIVE = 74
    ENTRY = 75
    FILE_KIND = 76
    TARGET = 77
    MTIME_NS = 78
    INODE = 79
    DEVICE = 80
    UNHASHED = 81


class FrameError(ValueError):
    """Bytes that are no frame, or a frame that is not the agent's."""


Value = bytes | str | int
"""What a field is made from; a text may hold bytes that are no UTF-8 as surrogate escapes."""


def encode_fields(fields: Iterable[tuple[int, Value]]) -> bytes:
    """Return fields as they stand in a frame; integers have 8 bytes."""
    parts: list[bytes] = []
    for tag, value in fields:
        if isinstance(value, int):
            data = _NUMBER.pack(value)
        elif isinstance(value, str):
            data = value.encode("utf-8", "surrogateescape")
        else:
            data = value
        parts += (_FIELD.pack(tag, len(data)), data)
    return b"".join(parts)


class Fields:
    """The fields of a frame or an entry, by tag; those that may be ignored and are unknown are kept, too."""

    def __init__(self, data: bytes | memoryview) -> None:
        """Read them all.

        Raises:
            FrameError: The bytes are no fields.
        """
        self._values: dict[int, list[bytes]] = {}
        view, at, size = memoryview(data), 0, len(data)
        while at < size:
            if size - at < _FIELD.size:
                message = "a field is cut"
                raise FrameError(message)
            tag, length = _FIELD.unpack_from(view, at)
            at += _FIELD.size
            if length > size - at:
                message = "a field is longer than its frame"
                raise FrameError(message)
            self._values.setdefault(tag, []).append(bytes(view[at : at + length]))
            at += length

    def __contains__(self, tag: int) -> bool:
        return tag in self._values

    def each(self, tag: int) -> list[bytes]:
        """Return every value with this tag, in order."""
        return self._values.get(tag, [])

    def data(self, tag: int) -> bytes:
        """Return the value, empty where there is none."""
        values = self._values.get(tag)
        return values[0] if values else b""

    def text(self, tag: int) -> str:
        """Return the value as text; bytes that are no UTF-8 become surrogate escapes."""
        return self.data(tag).decode("utf-8", "surrogateescape")

    def number(self, tag: int, default: int = 0) -> int:
        """Return an integer.

        Raises:
            FrameError: The value is none.
        """
        values = self._values.get(tag)
        if not values:
            return default
        if len(values[0]) != _NUMBER.size:
            message = f"field {tag} is no integer"
            raise FrameError(message)
        return int(_NUMBER.unpack(values[0])[0])

    def entries(self) -> Iterator["Fields"]:
        """Return the fields of each entry."""
        return (Fields(value) for value in self.each(Tag.ENTRY))


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it came."""

    kind: int
    flags: int
    status: int
    request: int
    counter: int
    fields: bytes
    bulk: bytes
    tag: bytes
    covered: bytes
    """What the tag speaks for."""

    def is_tagged_by(self, key: bytes) -> bool:
        """Return whether the tag is right."""
        return bool(self.flags & TAGGED) and compare_digest(self.tag, digest(key, self.covered, "sha256"))


def frame_parts(
    kind: int,
    fields: bytes = b"",
    bulk: bytes = b"",
    *,
    request: int = 0,
    status: int = 0,
    key: bytes | None = None,
    counter: int = 0,
) -> tuple[bytes, bytes, bytes]:
    """Return a frame, tagged where there is a key, as header with fields, bulk, and tag: bulk is not copied."""
    size = HEADER_SIZE + len(fields) + len(bulk) + (0 if key is None else TAG_SIZE)
    covered = _HEADER.pack(size, kind, 0 if key is None else TAGGED, status, request, len(fields), counter) + fields
    return covered, bulk, b"" if key is None else digest(key, covered, "sha256")


def encode_frame(
    kind: int,
    fields: bytes = b"",
    bulk: bytes = b"",
    *,
    request: int = 0,
    status: int = 0,
    key: bytes | None = None,
    counter: int = 0,
) -> bytes:
    """Return a frame in one piece; see `frame_parts`."""
    return b"".join(frame_parts(kind, fields, bulk, request=request, status=status, key=key, counter=counter))


class FrameReader:
    """Cuts a stream of bytes into frames; the parts of a large frame are put together once."""

    def __init__(self) -> None:
        """Begin at the start of a frame."""
        self._parts: list[bytes] = []
        self._missing = HEADER_SIZE

    def add(self, data: bytes) -> list[Frame]:
        """Take bytes and return the frames that are whole now.

        Raises:
            FrameError: They are no frames.
        """
        self._parts.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return []
        view = memoryview(b"".join(self._parts) if len(self._parts) > 1 else data)
        frames: list[Frame] = []
        at = 0
        while len(view) - at >= (size := _size_at(view, at)):
            frames.append(_frame_at(view, at, size))
            at += size
        self._parts = [bytes(view[at:])] if at < len(view) else []
        self._missing = size - (len(view) - at)
        return frames


def _size_at(view: memoryview, at: int) -> int:
    """Return the bytes of the frame that begins here; as long as its header is not whole, those of a header.

    Raises:
        FrameError: No frame begins here.
    """
    if len(view) - at < HEADER_SIZE:
        return HEADER_SIZE
    size, _, flags, _, _, fields_size, _ = _HEADER.unpack_from(view, at)
    tag_size = TAG_SIZE if flags & TAGGED else 0
    if size > FRAME_LIMIT or flags & ~TAGGED or HEADER_SIZE + fields_size + tag_size > size:
        message = "the agent sent something that is no frame"
        raise FrameError(message)
    return int(size)


def _frame_at(view: memoryview, at: int, size: int) -> Frame:
    _, kind, flags, status, request, fields_size, counter = _HEADER.unpack_from(view, at)
    bulk, end = at + HEADER_SIZE + fields_size, at + size
    tag = end - (TAG_SIZE if flags & TAGGED else 0)
    return Frame(
        kind=kind,
        flags=flags,
        status=status,
        request=request,
        counter=counter,
        fields=bytes(view[at + HEADER_SIZE : bulk]),
        bulk=bytes(view[bulk:tag]),
        tag=bytes(view[tag:end]),
        covered=bytes(view[at:bulk]),
    )


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one connection."""

    to_agent: bytes
    from_agent: bytes


def derive_keys(key: bytes, *, agent_nonce: bytes, client_nonce: bytes, claim: str) -> Keys:
    """Return what both ends of a connection tag their frames with."""
    base = digest(key, b"envfarm agent 1" + agent_nonce + client_nonce + claim.encode(), "sha256")
    return Keys(digest(base, b"to agent", "sha256"), digest(base, b"from agent", "sha256"))
