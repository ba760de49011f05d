"""Archives of artifacts: what came out of one box, made fit to be unpacked in another. PURE.

The archive was made by programs of a box that somebody worked in, so nothing in it is trusted: only what lies below the
artifact's own path is kept, as plain files, folders, and links that stay inside; ids, devices and set-user bits go.
"""

import io
import posixpath
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

_MODES = 0o777
_LATEST = 8**11 - 1
"""Of times that every program that unpacks can read."""
_MOST_BYTES = 1 << 30


def clean_archive(
    archive: bytes, source: PurePosixPath, exclude: Sequence[str] = (), *, limit_bytes: int = _MOST_BYTES
) -> bytes:
    """Return an archive that holds what may be carried over, with names relative to the root of the box.

    Args:
        archive: What the box made of the artifact; names are relative to its root.
        source: The artifact's absolute path in the box.
        exclude: Patterns of names, or of paths below the artifact, that stay behind.
        limit_bytes: Bound on the content of all files, hard links and holes counted in full.

    Raises:
        ValueError: It is no archive, or holds more than may be carried.
    """
    cleaned = io.BytesIO()
    try:
        with (
            tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as old,
            tarfile.open(fileobj=cleaned, mode="w") as new,
        ):
            carrying = _Carrying(str(source).strip("/"), exclude, limit_bytes, old, new)
            for member in old:
                carrying.carry(member)
    except (tarfile.TarError, EOFError, OSError, KeyError, ValueError, OverflowError, RecursionError) as error:
        message = f"the box made no archive of {source}: {error}"
        raise ValueError(message) from error
    return cleaned.getvalue()


def with_full_names(archive: bytes, source: PurePosixPath) -> bytes:
    """Return an archive whose names begin with the last part of a path as one of names relative to the root.

    Raises:
        ValueError: It is no archive.
    """
    renamed = io.BytesIO()
    parent = str(source.parent).strip("/")
    try:
        with (
            tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as old,
            tarfile.open(fileobj=renamed, mode="w") as new,
        ):
            for member in old:
                content = old.extractfile(member) if member.isreg() else None
                member.pax_headers = {}
                member.name = posixpath.join(parent, member.name)
                if member.islnk():
                    member.linkname = posixpath.join(parent, member.linkname)
                new.addfile(member, content)
    except (tarfile.TarError, EOFError, OSError, KeyError, ValueError, OverflowError, RecursionError) as error:
        message = f"it is no archive of {source}: {error}"
        raise ValueError(message) from error
    return renamed.getvalue()


@dataclass
class _Carrying:
    """Carries members over, one after the other."""

    top: str
    exclude: Sequence[str]
    bytes_left: int
    old: tarfile.TarFile
    new: tarfile.TarFile
    links: set[str] = field(default_factory=set)

    def carry(self, member: tarfile.TarInfo) -> None:
        name = posixpath.normpath(member.name.lstrip("/"))
        if not _is_below(name, self.top) or _is_excluded(name[len(self.top) :].lstrip("/"), self.exclude):
            return
        if any(parent in self.links for parent in map(str, PurePosixPath(name).parents)):
            return  # what lies below a link lies elsewhere
        kept = tarfile.TarInfo(name)
        kept.mode = member.mode & _MODES
        kept.mtime = int(member.mtime) if 0 <= member.mtime <= _LATEST else 0
        if member.isdir():
            kept.type = tarfile.DIRTYPE
            self.new.addfile(kept)
        elif member.issym():
            if name != self.top and _stays_inside(name, member.linkname, self.top):
                kept.type, kept.linkname = tarfile.SYMTYPE, member.linkname
                self.links.add(name)
                self.new.addfile(kept)
        elif member.isreg() or member.islnk():
            self._carry_file(member, kept)

    def _carry_file(self, member: tarfile.TarInfo, kept: tarfile.TarInfo) -> None:
        content = self.old.extractfile(member)  # of a hard link: what it is a link to, within this archive
        if content is None:
            return
        data = content.read(self.bytes_left + 1)
        self.bytes_left -= len(data)
        if self.bytes_left < 0:
            message = "it holds more than may be carried"
            raise ValueError(message)
        kept.size = len(data)
        self.new.addfile(kept, io.BytesIO(data))


def _stays_inside(name: str, target: str, top: str) -> bool:
    """Say whether a link leads to a place below `top`, whichever other links lie on its way.

    The folders above it are none of them links. So a way that goes up first and then only down through what is inside
    stays inside; one that goes up behind a link does not go where its text says.
    """
    parts = PurePosixPath(target).parts
    downward = parts[next((place for place, part in enumerate(parts) if part != ".."), len(parts)) :]
    if target.startswith("/") or ".." in downward:
        return False
    return _is_below(posixpath.normpath(posixpath.join(posixpath.dirname(name), target)), top)


def _is_below(name: str, top: str) -> bool:
    if name == ".." or name.startswith("../"):
        return False
    return not top or name == top or name.startswith(f"{top}/")


def _is_excluded(path: str, exclude: Sequence[str]) -> bool:
    parts = PurePosixPath(path)
    places = [str(parts), *map(str, parts.parents)] if path else []
    return any(
        fnmatchcase(place, rule) or fnmatchcase(PurePosixPath(place).name, rule) for place in places for rule in exclude
    )
