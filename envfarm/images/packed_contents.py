"""What a file holds when it is unpacked: archives and compressed files, also within each other. PURE.

Covered: zip with anything before it (wheels, eggs, zipapps), tar, gzip, bzip2, xz, zlib (as git's loose objects are).
Not covered: zstd and other formats; what lies deeper than four levels, or beyond 64 MiB of one file unpacked.
"""

import bz2
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol

_MOST_BYTES = 64 << 20
_PART_BYTES = 1 << 20
_LEVELS = 4
_GZIP_BITS = 31
"""As zlib tells a gzip stream from one of its own."""
_ZIP_END, _ZIP_TAIL = b"PK\5\6", (1 << 16) + 22
_TAR_MAGIC = slice(257, 262)
_DAMAGED = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zlib.error, lzma.LZMAError, KeyError)
"""What unpacking raises where there is no archive after all, or a broken one."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Packed:
    """A packed stream, read in parts: one that is cut off gives what it has, one that goes on behind its end all."""

    def __init__(self, content: bytes, make: Callable[[], Any]) -> None:
        self._left, self._make = content, make
        self._stream = make()

    def read(self, size: int, /) -> bytes:
        while self._left or not self._stream.eof:
            given, data = len(self._left), self._stream.decompress(self._left, size)
            self._left = getattr(self._stream, "unconsumed_tail", b"")
            if self._stream.eof:
                self._left = self._stream.unused_data
                self._stream = self._make()
            if data:
                return bytes(data)
            if len(self._left) == given:
                break
        return b""


def unpacked_contents(content: bytes, levels: int = _LEVELS) -> Iterator[bytes]:
    """Yield all that a content holds packed, the outer before the inner; nothing for what is no archive."""
    if levels == 0:
        return
    for inner in _members(content):
        yield inner
        yield from unpacked_contents(inner, levels - 1)


def _members(content: bytes) -> Iterator[bytes]:
    stream = _decompressing(content)
    if stream is not None:
        yield _bounded(stream)
    if content[_TAR_MAGIC] == b"ustar":
        yield from _of_tar(content)
    if _ZIP_END in content[-_ZIP_TAIL:]:
        yield from _of_zip(content)


def _decompressing(content: bytes) -> _Readable | None:
    if content.startswith(b"\x1f\x8b"):
        return _Packed(content, lambda: zlib.decompressobj(_GZIP_BITS))
    if content.startswith(b"BZh"):
        return _Packed(content, bz2.BZ2Decompressor)
    if content.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        return _Packed(content, lzma.LZMADecompressor)
    if content[:1] == b"\x78" and int.from_bytes(content[:2], "big") % 31 == 0:  # RFC 1950's check of its own head
        return _Packed(content, zlib.decompressobj)
    return None


def _bounded(stream: _Readable) -> bytes:
    """Return what a stream gives up to the bound, or up to where it is damaged."""
    parts: list[bytes] = []
    left = _MOST_BYTES
    with suppress(*_DAMAGED):
        while left > 0 and (part := stream.read(min(_PART_BYTES, left))):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)


def _of_tar(content: bytes) -> Iterator[bytes]:
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:", errors="surrogateescape") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() else None
                if file is not None:
                    yield _bounded(file)
    except (tarfile.TarError, *_DAMAGED):
        return


def _of_zip(content: bytes) -> Iterator[bytes]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, *_DAMAGED):
        return
    with archive:
        for info in archive.infolist():
            try:
                with archive.open(info) as file:
                    yield _bounded(file)
            except (zipfile.BadZipFile, *_DAMAGED):  # one that is damaged or locked hides no other
                continue
