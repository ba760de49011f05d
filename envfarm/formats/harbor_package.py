"""Task folders on disk: read whole or refused by the name of the damaged file, written whole or not at all."""

import os
from pathlib import Path

from envfarm.errors import TaskError
from envfarm.formats.harbor_digest import package_digest
from envfarm.formats.harbor_toml import parse_task_toml
from envfarm.formats.new_folder import new_folder, write_file
from envfarm.records.task import TASK_FILE, TaskPackage

_MOST_BYTES = 256 << 20


def read_package(path: Path) -> TaskPackage:
    """Return the task in a folder.

    Raises:
        TaskError: It is no task folder of ours, or is damaged; the message names the file.
    """
    files, _ = read_files(path)
    if TASK_FILE not in files:
        message = f"{path / TASK_FILE}: it is missing: name a task folder"
        raise TaskError(message)
    task, executable = parse_task_toml(files[TASK_FILE], files)
    return TaskPackage(task=task, files=files, executable=executable, digest=package_digest(files))


def read_files(path: Path, *, skipped: frozenset[str] = frozenset()) -> tuple[dict[str, bytes], frozenset[str]]:
    """Return all files below a folder by relative path, and which of them are executable.

    Args:
        path: The folder.
        skipped: Relative paths that are left out.

    Raises:
        TaskError: It is no folder, holds a link or a device, or cannot be read.
    """
    if not os.path.isdir(path):  # noqa: PTH112 -- a path object raises where a name is too long
        message = f"{path}: it is no folder: name a task folder"
        raise TaskError(message)
    files: dict[str, bytes] = {}
    executable: set[str] = set()
    total = 0
    for folder, names, entries in os.walk(path):
        for name in [*entries, *(name for name in names if (Path(folder) / name).is_symlink())]:
            file = Path(folder) / name
            relative = file.relative_to(path).as_posix()
            if relative in skipped:
                continue
            if file.is_symlink() or not file.is_file():
                message = f"{relative}: it is no regular file: a task holds files only"
                raise TaskError(message)
            try:
                facts = file.stat()
                total += facts.st_size
                if total > _MOST_BYTES:
                    message = f"{relative}: the folder holds more than {_MOST_BYTES >> 20} MiB: that is no task"
                    raise TaskError(message)
                files[relative] = file.read_bytes()
                if facts.st_mode & 0o100:
                    executable.add(relative)
            except OSError as error:
                message = f"{relative}: it cannot be read ({error.strerror})"
                raise TaskError(message) from error
    return files, frozenset(executable)


def write_package(package: TaskPackage, folder: Path) -> None:
    """Make `folder` hold the task: it appears by one rename, whole, in place of what was there.

    Raises:
        OutputFolderError: The disk is full, or the folder cannot be written; nothing half-written is left.
    """
    with new_folder(folder, replace=True) as partial:
        for path, content in package.files.items():
            write_file(partial / path, content, executable=path in package.executable)
