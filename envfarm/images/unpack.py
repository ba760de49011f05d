"""Unpacks a task's archives into folders of the cache; whatever they hold, nothing is written outside of them."""

import hashlib
import io
import lzma
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from envfarm.errors import Attribution, ImageBuildError, TaskError
from envfarm.images.unfinished import unfinished_folder

_LARGEST_BYTES = 1 << 30
"""Unpacked size of an archive; a task has a few megabytes, a bomb has none."""


def unpack_archive(name: str, data: bytes, folder: Path) -> None:
    """Unpack a .tar.xz into an empty folder; links may point anywhere, but nothing is written through one.

    Raises:
        TaskError: It is damaged, or holds something that no task needs: devices, hard links, paths out of it.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(_decompressed(data)), mode="r:", errors="surrogateescape") as archive:
            for member in archive:
                _write_member(name, archive, member, folder)
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        message = f"{name}: this archive is damaged ({error}): get the task again"
        raise TaskError(message) from error


def _decompressed(data: bytes) -> bytes:
    """Return all of an .xz stream: a reader that stops at the last member would not see that the end is missing."""
    stream = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
    whole = stream.decompress(data, max_length=_LARGEST_BYTES)
    if not stream.eof:
        message = "it is cut short" if len(whole) < _LARGEST_BYTES else "it is larger than any task"
        raise ValueError(message)
    return whole


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
    elif member.isreg():
        content = archive.extractfile(member)
        with target.open("xb") as file:
            shutil.copyfileobj(content, file) if content is not None else None
        target.chmod(0o755 if member.mode & 0o100 else 0o644)
    else:
        message = f"{name}: the archive holds {member.name!r}, which is neither a file, a folder nor a link"
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
