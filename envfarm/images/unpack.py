"""Unpacks a task's archives into folders of the cache; whatever they hold, nothing is written outside of them."""

import errno
import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from envfarm.errors import Attribution, ImageBuildError, TaskError
from envfarm.formats.xz_stream import decompress
from envfarm.images.unfinished import unfinished_folder

_DISK_FAULTS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE}
)
"""What no archive can be the cause of."""


def unpack_archive(name: str, data: bytes, folder: Path) -> None:
    """Unpack a .tar.xz into an empty folder; links may point anywhere, but nothing is written through one.

    Raises:
        TaskError: It is damaged, or holds something that no task needs: devices, hard links, paths out of it, files
            with holes (a few bytes of which fill any disk).
        OSError: The disk is full, or cannot be written.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(decompress(data)), mode="r:", errors="surrogateescape") as archive:
            for member in archive:
                _write_member(name, archive, member, folder)
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, OSError) and error.errno in _DISK_FAULTS:
            raise
        message = f"{name}: this archive is damaged ({' '.join(str(error).split())}): get the task again"
        raise TaskError(message) from error


def _write_member(name: str, archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        message = f"{name}: the archive holds the path {member.name!r}, which leads out of it"
        raise TaskError(message)
    target = folder / path
    parent = folder
    for part in path.parts[:-1]:
        parent /= part
        if parent.is_symlink() or (parent.exists() and not parent.is_dir()):
            message = f"{name}: the archive writes through {parent.relative_to(folder)}, which is no folder"
            raise TaskError(message)
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.isdir():
        target.mkdir(exist_ok=True)
    elif member.issym():
        target.symlink_to(member.linkname)
    elif member.isreg() and not member.issparse() and member.size >= 0:
        content = archive.extractfile(member)
        with target.open("xb") as file:
            shutil.copyfileobj(content, file) if content is not None else None
        target.chmod(0o755 if member.mode & 0o100 else 0o644)
    else:
        message = f"{name}: the archive holds {member.name!r}, which is no plain file, folder or link"
        raise TaskError(message)


def write_files(files: Mapping[str, bytes], folder: Path, *, executables: frozenset[str] = frozenset()) -> None:
    """Write files below a folder."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o755 if path in executables else 0o644)


class FolderCache:
    """Folders made once from bytes, under a digest of those bytes; each appears by one rename."""

    def __init__(self, root: Path) -> None:
        """Take the folder that holds them."""
        self._root = root

    def path_of(self, *parts: bytes) -> Path:
        """Return where the folder made from these bytes lies, or would."""
        digest = hashlib.sha256()
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return self._root / digest.hexdigest()[:32]

    @contextmanager
    def filled(self, folder: Path) -> Iterator[Path]:
        """Give a new folder to fill; when the block ends, it is `folder`, unless another process was quicker.

        If the block raises or the process dies, nothing appears.
        """
        with unfinished_folder(self._root) as partial:
            yield partial
            try:
                partial.rename(folder)
            except OSError as error:
                if not folder.is_dir():
                    message = f"{folder} cannot be made: {error}"
                    raise ImageBuildError(message, attribution=Attribution.FARM) from error
