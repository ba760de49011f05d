"""Frames, fields and requests as PROTOCOL.md draws them; what is said here about numbers is said there about meaning.

Standard library only, Python 3.6 and newer: this runs in sandboxes, never in the driver.
"""

import hashlib
import hmac
import struct

VERSION = 1
HEADER = struct.Struct(">IBBHIIQ")
FIELD = struct.Struct(">BI")
NUMBER = struct.Struct(">Q")
TAG_SIZE = 32
STRANGER_LIMIT = 4096
FRAME_LIMIT = 4 << 20
PATH_LIMIT = 4096
TAGGED = 1
REPLY = 0x80

HELLO, BIND, RESUME, PING, END = range(1, 6)
START, WAIT, READ, STDIN, SIGNAL, FORGET, JOBS = range(16, 23)
PUT, UPLOAD, DATA, COMMIT, GET, FETCH, LIST, STAT, REMOVE = range(32, 41)
ENTRY_KIND = 0x7F

OK, MALFORMED, UNKNOWN_KIND, NOT_BOUND, HELD, BAD_TAG, BAD_COUNTER, TOO_LARGE = range(8)
NO_SUCH_JOB, CONFLICT, SYSTEM, BAD_DIGEST, NO_ROOM, ENDING, NO_SUCH_UPLOAD = range(8, 15)

MESSAGE, ERRNO, F_VERSION, NONCE, INSTANCE, F_FRAME_LIMIT, IMPLEMENTATION, CLAIM, KEY, LEASE_MS, FACTS = range(1, 12)
JOB, ARGUMENT, VARIABLE, FOLDER, UID, GID, GROUP, TIMEOUT_MS, LIMIT, MEMORY_BYTES, STREAM = range(16, 27)
F_DATA, F_END, LEFTOVERS, NO_NEW_PRIVILEGES, WAIT_MS, INLINE_BYTES, DESCRIPTOR, OFFSET = range(27, 35)
F_SIGNAL, TREE, SERIAL, STATE = range(35, 39)
CODE, STAGE, CPU_US, PEAK_BYTES, WALL_US, FLAGS, OUTPUT, DROPPED = range(40, 48)
PATH, MODE, SIZE, OWNER_UID, OWNER_GID, DIGEST, F_UPLOAD, LENGTH, CURSOR, FOLLOW, RECURSIVE = range(64, 75)
ENTRY, FILE_KIND, TARGET, MTIME_NS, INODE, DEVICE, UNHASHED = range(75, 82)
MAY_BE_IGNORED = 0x80

_MOST = (1 << 63) - 1
_BOUNDS = {UID: (1 << 32) - 2, GID: (1 << 32) - 2, GROUP: (1 << 32) - 2, OWNER_UID: (1 << 32) - 2}
_BOUNDS.update({OWNER_GID: (1 << 32) - 2, F_SIGNAL: 64, DESCRIPTOR: 9, MODE: 0o7777, FILE_KIND: 4})
_BOUNDS.update(dict.fromkeys((F_END, LEFTOVERS, NO_NEW_PRIVILEGES, TREE, FOLLOW, RECURSIVE, UNHASHED), 1))
_BOUNDS.update(dict.fromkeys((TIMEOUT_MS, WAIT_MS), (1 << 32) - 1))
_BOUNDS.update(dict.fromkeys((MEMORY_BYTES, INLINE_BYTES, OFFSET, SERIAL, SIZE, LENGTH, CURSOR), _MOST))
_SIZES = {DIGEST: 32, LIMIT: 16, STREAM: 24}

_ACTING = {UID, GID}
_OWNER = {OWNER_UID, OWNER_GID}
_START = {
    FOLDER,
    UID,
    GID,
    TIMEOUT_MS,
    MEMORY_BYTES,
    F_DATA,
    F_END,
    LEFTOVERS,
    NO_NEW_PRIVILEGES,
    WAIT_MS,
    INLINE_BYTES,
}
SHAPES = {  # kind: what is required, what may be there, what may be there any number of times
    PING: (set(), set(), set()),
    END: (set(), set(), set()),
    START: ({JOB}, _START, {ARGUMENT, VARIABLE, GROUP, LIMIT, STREAM}),
    WAIT: ({JOB}, {WAIT_MS, INLINE_BYTES}, set()),
    READ: ({JOB, DESCRIPTOR, OFFSET, LENGTH}, {WAIT_MS}, set()),
    STDIN: ({JOB, OFFSET}, {F_DATA, F_END}, set()),
    SIGNAL: ({JOB, F_SIGNAL, SERIAL}, {TREE}, set()),
    FORGET: (set(), set(), {JOB}),
    JOBS: (set(), set(), set()),
    PUT: ({DIGEST}, _ACTING, {ENTRY}),
    UPLOAD: ({F_UPLOAD, PATH, MODE, SIZE}, _OWNER | _ACTING | {UNHASHED}, set()),
    DATA: ({F_UPLOAD, OFFSET}, set(), set()),
    COMMIT: ({F_UPLOAD}, {DIGEST}, set()),
    GET: ({PATH, OFFSET, LENGTH}, _ACTING | {UNHASHED}, set()),
    FETCH: ({LENGTH}, _ACTING, {PATH}),
    LIST: ({PATH}, {CURSOR} | _ACTING, set()),
    STAT: ({PATH}, {FOLLOW} | _ACTING, set()),
    REMOVE: ({PATH}, {RECURSIVE} | _ACTING, set()),
    ENTRY_KIND: ({PATH, FILE_KIND}, {MODE, SIZE, TARGET} | _OWNER, set()),
}


class MalformedError(Exception):
    """Fields or a frame that break the protocol."""


class TooLargeError(Exception):
    """A frame above its limit."""


class Frame:
    """One frame, with its parts still where they came."""

    __slots__ = ("bulk", "counter", "covered", "fields", "flags", "kind", "request", "status", "tag")


def read_frame(data, limit):
    """Return the first frame and its size, or None where it is not whole; `error` frames have kind and request only."""
    if len(data) < HEADER.size:
        return None
    frame = Frame()
    size, frame.kind, frame.flags, frame.status, frame.request, fields_size, frame.counter = HEADER.unpack_from(data)
    tag_size = TAG_SIZE if frame.flags & TAGGED else 0
    if size > limit:
        raise TooLargeError(frame)
    if frame.flags & ~TAGGED or HEADER.size + tag_size + fields_size > size:
        raise MalformedError(frame)
    if len(data) < size:
        return None
    bulk = HEADER.size + fields_size
    with memoryview(data) as view:
        frame.fields = bytes(view[HEADER.size : bulk])
        frame.covered = bytes(view[:bulk])
        frame.bulk = bytes(view[bulk : size - tag_size])
        frame.tag = bytes(view[size - tag_size : size])
    return frame, size


def split_fields(data):
    """Return the (tag, value) pairs of fields."""
    pairs, at = [], 0
    while at < len(data):
        if len(data) - at < FIELD.size:
            raise MalformedError
        tag, size = FIELD.unpack_from(data, at)
        at += FIELD.size
        if size > len(data) - at:
            raise MalformedError
        pairs.append((tag, data[at : at + size]))
        at += size
    return pairs


def join_fields(pairs):
    """Return fields as bytes; integers have 8 bytes."""
    parts = []
    for tag, value in pairs:
        data = NUMBER.pack(value) if isinstance(value, int) else value
        parts.append(FIELD.pack(tag, len(data)))
        parts.append(data)
    return b"".join(parts)


def make_frame(kind, request, status, fields, bulk=b"", key=None, counter=0):
    """Return a frame, tagged where there is a key."""
    size = HEADER.size + len(fields) + len(bulk) + (0 if key is None else TAG_SIZE)
    covered = HEADER.pack(size, kind, 0 if key is None else TAGGED, status, request, len(fields), counter) + fields
    return covered + bulk + (b"" if key is None else sign(key, covered))


def sign(key, data):
    """Return HMAC-SHA256."""
    return hmac.new(key, data, hashlib.sha256).digest()


class Request:
    """What a request holds: integers and values by tag, and lists of those that may come often."""

    def __init__(self, pairs):
        """Take fields that `judge` found in order."""
        self.first = {}
        self.pairs = pairs
        for tag, value in pairs:
            self.first.setdefault(tag, value)

    def __contains__(self, tag):
        return tag in self.first

    def get(self, tag, default=b""):
        """Return the first value with this tag."""
        return self.first.get(tag, default)

    def number(self, tag, default=0):
        """Return an integer."""
        value = self.first.get(tag)
        return default if value is None else NUMBER.unpack(value)[0]

    def each(self, tag):
        """Return every value with this tag."""
        return [value for other, value in self.pairs if other == tag]


def is_right(tag, value):
    """Return whether a value may stand in a field."""
    if tag in _BOUNDS:
        return len(value) == NUMBER.size and NUMBER.unpack(value)[0] <= _BOUNDS[tag]
    if tag in _SIZES:
        return len(value) == _SIZES[tag]
    if tag in (JOB, F_UPLOAD):
        return 1 <= len(value) <= 64
    if tag in (PATH, FOLDER, TARGET):
        return 1 <= len(value) < PATH_LIMIT and b"\0" not in value and (tag == TARGET or value[:1] == b"/")
    if tag == ARGUMENT:
        return b"\0" not in value
    if tag == VARIABLE:
        return b"\0" not in value and value.find(b"=") > 0
    return True


def judge(kind, data):
    """Return the request, or raise MalformedError."""
    required, optional, many = SHAPES[kind]
    seen = set()
    pairs = []
    for tag, value in split_fields(data):
        if tag >= MAY_BE_IGNORED:
            continue
        known = tag in required or tag in optional
        if not (known or tag in many) or (known and tag in seen) or not is_right(tag, value):
            raise MalformedError
        seen.add(tag)
        pairs.append((tag, value))
    if not required <= seen or (UID in seen) != (GID in seen):
        raise MalformedError
    return Request(pairs)
