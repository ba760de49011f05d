"""The hidden tests of one run: the reference archive with some files altered. PURE: bytes in, bytes out."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from envfarm.records.trust import Edit


def read_reference(archive: bytes) -> Mapping[str, bytes]:
    """Return the regular files of a reference archive by path."""
    return {name: content for name, content, _ in _members(archive) if content is not None}


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What a workspace is made to hold before tests run in it.

    Attributes:
        archive: The reference archive: protected files as they have to be.
        protected: Patterns; whatever matches and is not in the archive is removed.
        removed_paths: Paths that are removed as well.
        altered: Files of the archive that have another content.
    """

    archive: bytes = field(repr=False)
    protected: tuple[str, ...]
    removed_paths: tuple[str, ...] = ()
    altered: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def contents(self) -> dict[str, bytes]:
        """Return the regular files that are placed, by path.

        Raises:
            KeyError: An altered path is no regular file of the archive.
        """
        placed = dict(read_reference(self.archive))
        missing = self.altered.keys() - placed.keys()
        if missing:
            raise KeyError(min(missing))
        return placed | dict(self.altered)

    def job(self) -> dict[str, Any]:
        """Return what `box_programs/place_files.py` does, as `marshal` can write it."""
        contents = self.contents()
        members = [
            (name, facts.mode, facts.linkname if facts.issym() else None, contents.get(name, b""))
            for name, _, facts in _members(self.archive)
        ]
        return {"protected": list(self.protected), "removed": list(self.removed_paths), "members": members}


def apply_edits(files: Mapping[str, bytes], edits: Iterable[Edit]) -> dict[str, bytes]:
    """Return the files that edits change, with all of them applied.

    Raises:
        ValueError: Two edits overlap, one reaches past the end, or one changes the number of lines.
    """
    by_path: dict[str, list[Edit]] = {}
    for edit in edits:
        by_path.setdefault(edit.path, []).append(edit)
    return {path: _spliced(files[path], found) for path, found in by_path.items()}


def _spliced(content: bytes, edits: list[Edit]) -> bytes:
    parts, position = [], 0
    for edit in sorted(set(edits), key=lambda item: (item.start, item.end)):
        text = edit.text.encode("utf-8", "surrogateescape")
        if not position <= edit.start <= edit.end <= len(content):
            message = f"the edit of {edit.path} at byte {edit.start} overlaps another or reaches past the end"
            raise ValueError(message)
        if text.count(b"\n") != content.count(b"\n", edit.start, edit.end):
            message = f"the edit of {edit.path} at byte {edit.start} changes the number of lines"
            raise ValueError(message)
        parts += [content[position : edit.start], text]
        position = edit.end
    return b"".join([*parts, content[position:]])


@lru_cache(maxsize=4)
def _members(archive: bytes) -> tuple[tuple[str, bytes | None, tarfile.TarInfo], ...]:
    found = []
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:*", errors="surrogateescape") as opened:
        for member in opened:
            stream = opened.extractfile(member) if member.isreg() else None
            found.append((member.name, stream.read() if stream is not None else None, member))
    return tuple(found)
