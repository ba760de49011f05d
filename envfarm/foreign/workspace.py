"""A working directory that somebody left on this machine, and a box whose working directory becomes the same."""

import io
import os
import stat
import tarfile
from pathlib import Path, PurePosixPath

from envfarm.errors import UserError
from envfarm.foreign.box import Box

_MOST_BYTES = 1 << 30
_MODES = 0o777
"""Without set-user bits: what is unpacked belongs to root."""
_CLEAR = 'find "$1" -mindepth 1 -maxdepth 1 -exec rm -rf -- {} +'


def pack_workspace(folder: Path) -> bytes:
    """Return a folder as an archive: files, folders and links, with their permissions; sockets and devices stay away.

    Raises:
        UserError: It cannot be read, or is larger than 1 GiB.
    """
    packed = io.BytesIO()
    total = 0
    try:
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for place in _walk(folder):
                member = archive.gettarinfo(place, arcname=place.relative_to(folder).as_posix())
                if not (member.isdir() or member.issym() or member.isreg() or member.islnk()):
                    continue
                member.uid = member.gid = 0
                member.mode &= _MODES
                member.uname = member.gname = ""
                total += member.size
                if total > _MOST_BYTES:
                    message = f"--workspace {folder} holds more than {_MOST_BYTES >> 20} MiB"
                    raise UserError(message)
                if member.isreg():
                    with place.open("rb") as file:
                        archive.addfile(member, file)
                else:
                    archive.addfile(member)
    except OSError as error:
        message = f"--workspace {folder} cannot be read: {error.filename}: {error.strerror}"
        raise UserError(message) from error
    return packed.getvalue()


def _walk(folder: Path) -> list[Path]:
    found = []
    for place, names, entries in os.walk(folder, onerror=_refuse):
        names.sort()
        found += [Path(place) / name for name in sorted([*names, *entries])]
    return [path for path in found if not stat.S_ISSOCK(path.lstat().st_mode)]


def _refuse(error: OSError) -> None:
    """A folder that cannot be read is no empty one."""
    raise error


async def replace_workspace(box: Box, archive: bytes, *, owner: str | None = None) -> None:
    """Make the working directory of a box hold exactly what an archive holds.

    Args:
        box: The box.
        archive: What `pack_workspace` made.
        owner: Whom the files belong to; None for root.

    Raises:
        UserError: The box works in its root folder, which nothing can replace.
        VerifierError: The box does not let itself be prepared.
    """
    place = box.working_directory
    if place == PurePosixPath("/"):
        message = "--workspace: the task works in / and names no workdir, so nothing can take its place"
        raise UserError(message)
    await box.own(_CLEAR, str(place))
    await box.unpack(archive, place)
    if owner is not None:
        await box.own('chown -R -- "$2" "$1"', str(place), owner)
