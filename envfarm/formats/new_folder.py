"""Folders that appear whole: written beside their place, brought to the disk, and put there by one rename."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envfarm.errors import OutputFolderError


@contextmanager
def new_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give an empty folder to fill; when the block ends, `folder` is what was filled, whole.

    If the block raises or the process dies, `folder` is as it was before; a process that is killed leaves a hidden
    ``.NAME.partial-*`` beside it.

    Args:
        folder: Where it appears. It may be there only if it is empty, or with `replace`.
        replace: Put the new folder in place of an old one.

    Raises:
        OutputFolderError: It is there and not empty, the disk is full, or it cannot be written.
    """
    try:
        if not replace and (folder.is_file() or (folder.is_dir() and any(folder.iterdir()))):
            message = f"{folder} is there and not empty: name a new folder as --out"
            raise OutputFolderError(message)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.partial-"))
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        yield partial
        partial.chmod(0o755)
        _put(partial, folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_file(path: Path, content: bytes, *, executable: bool = False) -> None:
    """Write one file and what folders it needs, and bring it to the disk; its mode is 0644, or 0755.

    Raises:
        OSError: It cannot be written; `new_folder` turns it into one line.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(descriptor, 0o755 if executable else 0o644)
        os.fdatasync(descriptor)


def unwritable(folder: Path, error: OSError) -> OutputFolderError:
    """Return the one line that says why a folder cannot be written, and what to do."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return OutputFolderError(f"no space left for {folder}: free some, or name another folder")
    return OutputFolderError(f"{folder} cannot be written ({error.strerror}): name another folder, or change its owner")


def _put(partial: Path, folder: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
    else:
        aside = partial.with_name(f"{partial.name}.old")
        folder.rename(aside)
        partial.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
    parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
