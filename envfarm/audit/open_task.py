"""Opens a task of ours for `envfarm audit`, or says in one line why it is none; `envfarm.foreign` opens others."""

from pathlib import Path

from envfarm.errors import TaskError, UserError
from envfarm.formats.foreign_rows import ROW_FILE, read_rows
from envfarm.formats.harbor import read_package
from envfarm.records.task import TaskPackage


def open_task(path: Path) -> TaskPackage:
    """Return the task at a path.

    Raises:
        UserError: It is a row of a data set, which nothing here can run.
        TaskError: It is no task, or damaged.
    """
    if path.is_file():
        row = next(read_rows(path), None)
        if row is None:
            message = f"{path}: it holds no task: name a task's folder"
            raise TaskError(message)
        raise UserError(_not_runnable(path, "a file of SWE-bench rows"))
    if (path / ROW_FILE).is_file():
        raise UserError(_not_runnable(path, "an imported SWE-bench row"))
    return read_package(path)


def _not_runnable(path: Path, what: str) -> str:
    return (
        f"{path} is {what}: it names an image and brings no script that judges: name a folder of a SWE-bench task "
        "repository, a Harbor task, or a task that `envfarm mine` made"
    )
