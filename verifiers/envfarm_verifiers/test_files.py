"""The hidden tests of one run: the reference archive with some files altered. PURE: bytes in, bytes out."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from functools import lru_cache

from envfarm.records.trust import Edit


def read_reference(archive: bytes) -> Mapping[str, bytes]:
    """Return the regular files of a reference archive by path."""
    return {name: content for name, content, _ in _members(archive) if content is not None}


def alter_reference(archive: bytes, contents: Mapping[str, bytes]) -> bytes:
    """Return the archive, not compressed, with some files' contents replaced; every file has the same time.

    Raises:
        KeyError: A path is no regular file of the archive.
    """
    missing = contents.keys() - read_reference(archive).keys()
    if missing:
        raise KeyError(min(missing))
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as written:
        for name, content, facts in _members(archive):
            member = tarfile.TarInfo(name)
            member.mode, member.type, member.linkname = facts.mode, facts.type, facts.linkname
            data = contents.get(name, content)
            if data is None:
                written.addfile(member)
            else:
                member.size = len(data)
                written.addfile(member, io.BytesIO(data))
    return output.getvalue()


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
