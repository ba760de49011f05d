"""Writes git's pack, pack index and staging index byte by byte. PURE.

Why not `git pack-objects`: its bytes depend on git's version, on zlib's, on the threads it used and on the deltas that
the source happened to hold. Here every object is stored in uncompressed deflate blocks, whole: the archive around the
pack is compressed as one stream, which finds what deltas would have found. Where nothing compresses what is around the
pack, as in a container engine's layers, the caller gives deltas.

Formats: gitformat-pack(5) and gitformat-index(5), pack version 2, pack index version 2, index version 2.
"""

import hashlib
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_TYPES = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
_KINDS = {number: kind for kind, number in _TYPES.items()}
_OFFSET_DELTA = 6
_STORED_BLOCK = 0xFFFF
_INDEX_MAGIC = b"\xfftOc"
_LARGE_OFFSET = 0x80000000
_SHA1_BYTES = 20


@dataclass(frozen=True)
class GitObject:
    """One object: its id (40 hex digits), its type (commit, tree, blob, tag) and its content without header."""

    oid: str
    kind: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Delta:
    """How an object is told by another one: that one's id, and a delta as git has it."""

    base: str
    content: bytes = field(repr=False)


def deflate_stored(data: bytes) -> bytes:
    """Return `data` as a zlib stream of stored blocks: the same bytes from every zlib."""
    parts = [b"\x78\x01"]
    for start in range(0, max(len(data), 1), _STORED_BLOCK):
        block = data[start : start + _STORED_BLOCK]
        final = 1 if start + _STORED_BLOCK >= len(data) else 0
        parts.append(struct.pack("<BHH", final, len(block), len(block) ^ 0xFFFF) + block)
    parts.append(struct.pack(">I", zlib.adler32(data)))
    return b"".join(parts)


def read_whole_pack(pack: bytes) -> list[GitObject]:
    """Return the objects of a pack that holds all of them whole, in its order.

    Raises:
        ValueError: It is no such pack, or is damaged.
    """
    magic, version, count = struct.unpack_from(">4sII", pack) if len(pack) >= 12 + _SHA1_BYTES else (b"", 0, 0)
    if (magic, version) != (b"PACK", 2) or hashlib.sha1(pack[:-_SHA1_BYTES]).digest() != pack[-_SHA1_BYTES:]:  # noqa: S324 -- the format's
        message = "it is no pack of version 2, or it is damaged"
        raise ValueError(message)
    objects, position = [], 12
    for _ in range(count):
        number, size, position = _read_header(pack, position)
        inflate = zlib.decompressobj()
        try:
            packed = pack[position : position + size + size // 1024 + 64]  # no zlib needs more for what it stores
            content = inflate.decompress(packed, size + 1)
        except zlib.error as error:
            message = f"the pack is damaged: {error}"
            raise ValueError(message) from error
        if number not in _KINDS or len(content) != size or not inflate.eof:
            message = "the pack holds an object that is not whole"
            raise ValueError(message)
        position += len(packed) - len(inflate.unused_data)
        kind = _KINDS[number]
        oid = hashlib.sha1(f"{kind} {size}".encode() + b"\0" + content).hexdigest()  # noqa: S324 -- the format's
        objects.append(GitObject(oid, kind, content))
    return objects


def _read_header(pack: bytes, position: int) -> tuple[int, int, int]:
    """Return type, size and the place behind the header."""
    byte = pack[position]
    number, size, shift = byte >> 4 & 7, byte & 0x0F, 4
    position += 1
    while byte & 0x80:
        byte = pack[position]
        size |= (byte & 0x7F) << shift
        shift, position = shift + 7, position + 1
    return number, size, position


def _distance(distance: int) -> bytes:
    """Return how far back in the pack a delta's base starts, as git writes it."""
    digits = [distance & 0x7F]
    while distance := distance >> 7:
        distance -= 1
        digits.append(0x80 | distance & 0x7F)
    return bytes(reversed(digits))


def _object_header(kind: int, size: int) -> bytes:
    byte = (kind << 4) | (size & 0x0F)
    size >>= 4
    header = bytearray()
    while size:
        header.append(byte | 0x80)
        byte = size & 0x7F
        size >>= 7
    header.append(byte)
    return bytes(header)


def _large_offsets(offsets: Sequence[int]) -> tuple[bytes, bytes]:
    small: list[bytes] = []
    large: list[bytes] = []
    for offset in offsets:
        if offset < _LARGE_OFFSET:
            small.append(struct.pack(">I", offset))
        else:
            small.append(struct.pack(">I", _LARGE_OFFSET | len(large)))
            large.append(struct.pack(">Q", offset))
    return b"".join(small), b"".join(large)


def build_pack(objects: Sequence[GitObject], deltas: Mapping[str, Delta] | None = None) -> tuple[str, bytes, bytes]:
    """Return the pack's name (40 hex digits), the pack and its index, for objects in the order given.

    Args:
        objects: All of them.
        deltas: How some of them are told, by id; each one's base stands before it in `objects`.

    Raises:
        ValueError: An object is listed twice, has an unknown type, or stands before its delta's base.
    """
    ordered = sorted(objects, key=lambda item: item.oid)
    if len({item.oid for item in ordered}) != len(ordered):
        message = "an object is listed twice"
        raise ValueError(message)
    parts = [b"PACK" + struct.pack(">II", 2, len(objects))]
    position = len(parts[0])
    offsets: dict[str, int] = {}
    checks: dict[str, int] = {}
    for item in objects:
        if item.kind not in _TYPES:
            message = f"unknown object type {item.kind!r}"
            raise ValueError(message)
        entry = _entry(item, (deltas or {}).get(item.oid), offsets, position)
        offsets[item.oid], checks[item.oid] = position, zlib.crc32(entry)
        parts.append(entry)
        position += len(entry)
    body = b"".join(parts)
    trailer = hashlib.sha1(body).digest()  # noqa: S324 -- the pack format asks for SHA-1
    ids = [bytes.fromhex(item.oid) for item in ordered]
    fanout = [0] * 256
    for oid in ids:
        fanout[oid[0]] += 1
    total = 0
    for byte in range(256):
        total += fanout[byte]
        fanout[byte] = total
    small, large = _large_offsets([offsets[item.oid] for item in ordered])
    index = b"".join(
        [
            _INDEX_MAGIC,
            struct.pack(">I", 2),
            struct.pack(">256I", *fanout),
            b"".join(ids),
            b"".join(struct.pack(">I", checks[item.oid]) for item in ordered),
            small,
            large,
            trailer,
        ]
    )
    index += hashlib.sha1(index).digest()  # noqa: S324 -- the index format asks for SHA-1
    name = hashlib.sha1(b"".join(ids)).hexdigest()  # noqa: S324 -- git names packs by their sorted ids
    return name, body + trailer, index


def _entry(item: GitObject, delta: Delta | None, offsets: Mapping[str, int], position: int) -> bytes:
    if delta is None:
        return _object_header(_TYPES[item.kind], len(item.content)) + deflate_stored(item.content)
    if delta.base not in offsets:
        message = f"the delta of {item.oid} stands before its base"
        raise ValueError(message)
    head = _object_header(_OFFSET_DELTA, len(delta.content)) + _distance(position - offsets[delta.base])
    return head + deflate_stored(delta.content)


def build_index(entries: Mapping[bytes, tuple[int, str]]) -> bytes:
    """Return a staging index for `entries`: path to (mode, object id), without any time stamps.

    Zero stat data tells git to look at each file once; after that `git status` is as quick as ever.
    """
    parts = [b"DIRC" + struct.pack(">II", 2, len(entries))]
    for path in sorted(entries):
        mode, oid = entries[path]
        entry = struct.pack(">10I", 0, 0, 0, 0, 0, 0, mode, 0, 0, 0) + bytes.fromhex(oid)
        entry += struct.pack(">H", min(len(path), 0xFFF)) + path
        parts.append(entry + b"\0" * (8 - len(entry) % 8))
    body = b"".join(parts)
    return body + hashlib.sha1(body).digest()  # noqa: S324 -- the index format asks for SHA-1
