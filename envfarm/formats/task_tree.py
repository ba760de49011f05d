"""All files of a task folder of anybody's, links followed as far as they stay inside."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envfarm.errors import TaskError

_MOST_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class TaskTree:
    """What a folder holds.

    Attributes:
        files: Content by relative path; of a link, what it leads to.
        folders: Relative paths of folders.
        strays: Relative paths that are no file and no folder of the task: links out of it, dead ones, devices.
        executable: Those of `files` that are programs.
    """

    files: Mapping[str, bytes] = field(repr=False)
    folders: frozenset[str]
    strays: tuple[str, ...]
    executable: frozenset[str] = frozenset()


def read_tree(path: Path) -> TaskTree:
    """Return what a folder holds, ``.git`` left out.

    Raises:
        TaskError: It is no folder, a file cannot be read, or it holds more than 1 GiB.
    """
    if not os.path.isdir(path):  # noqa: PTH112 -- a path object raises where a name is too long
        message = f"{path}: it is no folder: name a task folder"
        raise TaskError(message)
    root = path.resolve()
    files: dict[str, bytes] = {}
    folders: set[str] = set()
    strays: list[str] = []
    executable: set[str] = set()
    total = 0
    for folder, names, entries in os.walk(root):
        names[:] = sorted(name for name in names if name != ".git")
        for name in [*names, *sorted(entries)]:
            place = Path(folder) / name
            relative = place.relative_to(root).as_posix()
            try:
                target = place.resolve(strict=True)
                if not target.is_relative_to(root) or not (target.is_file() or target.is_dir()):
                    strays.append(relative)
                elif target.is_dir():
                    folders.add(relative)
                else:
                    facts = target.stat()
                    total += facts.st_size
                    _check_size(total, relative)
                    files[relative] = target.read_bytes()
                    if facts.st_mode & 0o100:
                        executable.add(relative)
            except (FileNotFoundError, RuntimeError):
                strays.append(relative)
            except OSError as error:
                message = f"{relative}: it cannot be read ({error.strerror})"
                raise TaskError(message) from error
    return TaskTree(files=files, folders=frozenset(folders), strays=tuple(strays), executable=frozenset(executable))


def _check_size(total: int, relative: str) -> None:
    if total > _MOST_BYTES:
        message = f"{relative}: the folder holds more than {_MOST_BYTES >> 20} MiB: that is no task"
        raise TaskError(message)
