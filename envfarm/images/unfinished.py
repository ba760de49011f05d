"""Folders of the cache that are being filled: whose they are, and what becomes of them when their owner is killed.

An unfinished folder is hidden (``.partial-*``) and locked by the process that fills it; the kernel takes the lock back
when that process dies. So whoever finds one that is not locked may remove it, and nobody takes one for a whole folder.
Where a file system cannot lock, unfinished folders stay.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = ".partial-"


@contextmanager
def unfinished_folder(root: Path, name: str = "") -> Iterator[Path]:
    """Give an empty folder below `root` to fill, and to rename once it is whole; what is left of it then is removed.

    Args:
        root: The folder of the cache in which it lies; made where it is missing.
        name: Becomes part of its name, for people.
    """
    folder, descriptor = _make(root, name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remove_unfinished(cache_folder: Path) -> None:
    """Remove what killed processes left half-filled in a cache; what a living one fills stays."""
    for folder in cache_folder.glob(f"*/{_PREFIX}*"):
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:  # its owner was faster
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # it is being filled
            continue
        finally:
            os.close(descriptor)


def _make(root: Path, name: str) -> tuple[Path, int]:
    """Return a new folder and the descriptor that locks it."""
    root.mkdir(parents=True, exist_ok=True)
    while True:
        folder = Path(tempfile.mkdtemp(dir=root, prefix=f"{_PREFIX}{name}"))
        folder.chmod(0o755)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            return folder, descriptor
        if folder.is_dir():
            return folder, descriptor
        os.close(descriptor)  # somebody removed it before it was locked
