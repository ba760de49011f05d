"""Task folders on disk: read whole or refused by the name of the damaged file, written whole or not at all."""

import os
import shutil
import tempfile
from pathlib import Path

from envfarm.errors import OutputFolderError, TaskError
from envfarm.formats.harbor_digest import package_digest
from envfarm.formats.harbor_toml import parse_task_toml
from envfarm.records.task import TASK_FILE, TaskPackage

_MOST_BYTES = 256 << 20


def read_package(path: Path) -> TaskPackage:
    """Return the task in a folder.

    Raises:
        TaskError: It is no task folder of ours, or is damaged; the message names the file.
    """
    files, executable = read_files(path)
    if TASK_FILE not in files:
        message = f"{path / TASK_FILE}: it is missing: name a task folder"
        raise TaskError(message)
    task = parse_task_toml(files[TASK_FILE], files)
    return TaskPackage(task=task, files=files, executable=executable, digest=package_digest(files))


def read_files(path: Path) -> tuple[dict[str, bytes], frozenset[str]]:
    """Return all files below a folder by relative path, and which of them are executable.

    Raises:
        TaskError: It is no folder, holds a link or a device, or cannot be read.
    """
    if not path.is_dir():
        message = f"{path}: it is no folder: name a task folder"
        raise TaskError(message)
    files: dict[str, bytes] = {}
    executable: set[str] = set()
    total = 0
    for folder, names, entries in os.walk(path):
        for name in [*entries, *(name for name in names if (Path(folder) / name).is_symlink())]:
            file = Path(folder) / name
            relative = file.relative_to(path).as_posix()
            if file.is_symlink() or not file.is_file():
                message = f"{relative}: it is no regular file: a task holds files only"
                raise TaskError(message)
            try:
                files[relative] = file.read_bytes()
                if file.stat().st_mode & 0o100:
                    executable.add(relative)
            except OSError as error:
                message = f"{relative}: it cannot be read ({error.strerror})"
                raise TaskError(message) from error
            total += len(files[relative])
            if total > _MOST_BYTES:
                message = f"{relative}: the folder holds more than {_MOST_BYTES >> 20} MiB: that is no task"
                raise TaskError(message)
    return files, frozenset(executable)


def write_package(package: TaskPackage, folder: Path) -> None:
    """Make `folder` hold the task: it appears by one rename, whole, in place of what was there.

    Raises:
        OutputFolderError: The disk is full, or the folder cannot be written; nothing half-written is left.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.partial-"))
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        for path, content in package.files.items():
            target = partial / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o755 if path in package.executable else 0o644)
        partial.chmod(0o755)
        if folder.exists():
            _swap(partial, folder)
        else:
            partial.rename(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(partial: Path, folder: Path) -> None:
    aside = partial.with_name(f"{partial.name}.old")
    folder.rename(aside)
    partial.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _unwritable(folder: Path, error: OSError) -> OutputFolderError:
    return OutputFolderError(f"{folder} cannot be written ({error.strerror}): free space or name another folder")
