"""Archives of artifacts: what came out of one box, made fit to be unpacked in another. PURE.

The archive was made by programs of a box that somebody worked in, so nothing in it is trusted: only what lies below the
artifact's own path is kept, as plain files, folders, and links that stay inside; ids, devices and set-user bits go.
"""

import io
import posixpath
import tarfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

_MODES = 0o777


def clean_archive(archive: bytes, source: PurePosixPath, exclude: Sequence[str] = ()) -> bytes:
    """Return an archive that holds what may be carried over, with names relative to the root of the box.

    Args:
        archive: What the box made of the artifact; names are relative to its root.
        source: The artifact's absolute path in the box.
        exclude: Patterns of names, or of paths below the artifact, that stay behind.

    Raises:
        ValueError: It is no archive.
    """
    top = str(source).strip("/")
    cleaned = io.BytesIO()
    try:
        with (
            tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as old,
            tarfile.open(fileobj=cleaned, mode="w") as new,
        ):
            for member in old:
                name = posixpath.normpath(member.name.lstrip("/"))
                if _is_below(name, top) and not _is_excluded(name[len(top) :].lstrip("/"), exclude):
                    _copy(member, name, top, old, new)
    except (tarfile.TarError, EOFError, OSError, KeyError, OverflowError) as error:
        message = f"the box made no archive of {source}: {error}"
        raise ValueError(message) from error
    return cleaned.getvalue()


def _copy(member: tarfile.TarInfo, name: str, top: str, old: tarfile.TarFile, new: tarfile.TarFile) -> None:
    kept = tarfile.TarInfo(name)
    kept.mode = member.mode & _MODES
    kept.mtime = member.mtime
    if member.isdir():
        kept.type = tarfile.DIRTYPE
        new.addfile(kept)
    elif member.issym():
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        if not member.linkname.startswith("/") and _is_below(target, top) and name != top:
            kept.type, kept.linkname = tarfile.SYMTYPE, member.linkname
            new.addfile(kept)
    elif member.isreg() or member.islnk():
        content = old.extractfile(member)  # of a hard link: what it is a link to, within this archive
        if content is not None:
            data = content.read()
            kept.size = len(data)
            new.addfile(kept, io.BytesIO(data))


def _is_below(name: str, top: str) -> bool:
    return not top or name == top or name.startswith(f"{top}/")


def _is_excluded(path: str, exclude: Sequence[str]) -> bool:
    parts = PurePosixPath(path)
    places = [str(parts), *map(str, parts.parents)] if path else []
    return any(
        fnmatchcase(place, rule) or fnmatchcase(PurePosixPath(place).name, rule) for place in places for rule in exclude
    )
