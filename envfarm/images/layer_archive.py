"""Writes a layer of an image as a tar whose bytes depend on its entries alone. PURE but for what entries read.

Entries are sorted, carry numeric owners and one time, and nothing of this machine or of the clock. The digest of the
bytes is the layer's name everywhere: with container engines, in a recipe, in a certificate.
"""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

LAYER_TIME = 1704067200
"""2024-01-01 in UTC: what has no time of its own."""


class _Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, kw_only=True)
class LayerEntry:
    """A folder, a file or a symbolic link.

    Attributes:
        path: Relative POSIX path (undecodable bytes as surrogates).
        mode: Permission bits.
        owner: UID and GID.
        modified_at: Seconds since the epoch.
        read: Gives the content of a file; None for others.
        link_target: Where a link points; None for others.
    """

    path: str
    mode: int = 0o755
    owner: int = 0
    modified_at: int = LAYER_TIME
    read: Callable[[], bytes] | None = field(default=None, repr=False)
    link_target: str | None = None


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """What a written layer is known by.

    Attributes:
        diff_id: ``sha256:`` and the digest of the tar's bytes.
        size_bytes: Their number.
    """

    diff_id: str
    size_bytes: int


def giver(content: bytes) -> Callable[[], bytes]:
    """Return what gives a content, as reading a file would."""
    return lambda: content


class _Hashing(io.RawIOBase):
    """Passes bytes on, and keeps count of them."""

    def __init__(self, sink: _Sink) -> None:
        super().__init__()
        self._sink = sink
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: Any, /) -> int:
        self._digest.update(data)
        self.size_bytes += len(data)
        self._sink.write(data)
        return len(data)

    def facts(self) -> LayerFacts:
        return LayerFacts(diff_id=f"sha256:{self._digest.hexdigest()}", size_bytes=self.size_bytes)


def write_layer(entries: Iterable[LayerEntry], sink: _Sink) -> LayerFacts:
    """Write a layer and return its facts; folders that are only implied are root's.

    Raises:
        ValueError: A path is absolute, climbs out, is there twice, or has something below it that is no folder.
        OSError: An entry cannot be read, or the sink is full.
    """
    by_path: dict[str, LayerEntry] = {}
    for entry in entries:
        parts = entry.path.split("/")
        if entry.path in by_path or "" in parts or "." in parts or ".." in parts:
            message = f"not a path for a layer, or there twice: {entry.path!r}"
            raise ValueError(message)
        by_path[entry.path] = entry
    for path in list(by_path):
        _add_parents(by_path, path)
    hashing = _Hashing(sink)
    with tarfile.open(fileobj=hashing, mode="w|", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        for path in sorted(by_path, key=lambda item: item.encode("utf-8", "surrogateescape")):
            _add(archive, by_path[path])
    return hashing.facts()


def _add_parents(by_path: dict[str, LayerEntry], path: str) -> None:
    parent = path.rpartition("/")[0]
    while parent:
        known = by_path.setdefault(parent, LayerEntry(path=parent))
        if known.read is not None or known.link_target is not None:
            message = f"{path!r} lies below {parent!r}, which is no folder"
            raise ValueError(message)
        parent = parent.rpartition("/")[0]


def _add(archive: tarfile.TarFile, entry: LayerEntry) -> None:
    info = tarfile.TarInfo(entry.path)
    info.mode, info.mtime, info.uid, info.gid = entry.mode, entry.modified_at, entry.owner, entry.owner
    if entry.link_target is not None:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.link_target, 0o777
        archive.addfile(info)
    elif entry.read is None:
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    else:
        content = entry.read()
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
