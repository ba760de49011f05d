"""Opens what `envfarm audit` is given: a task whose tests can be run here, or one line that says why they cannot."""

import tomllib
from pathlib import Path

from envfarm.errors import TaskError, UserError
from envfarm.formats.foreign_rows import ROW_FILE, read_rows
from envfarm.formats.harbor import read_package
from envfarm.records.task import TASK_FILE, TaskPackage


def open_task(path: Path) -> TaskPackage:
    """Return the task at a path.

    Raises:
        UserError: It is somebody else's, whose tests need a container engine.
        TaskError: It is no task, or damaged.
    """
    if path.is_file():
        row = next(read_rows(path), None)
        if row is None:
            message = f"{path}: it holds no task: name a task's folder"
            raise TaskError(message)
        raise UserError(_needs_engine(path, "a file of SWE-bench rows"))
    if (path / ROW_FILE).is_file():
        raise UserError(_needs_engine(path, "an imported SWE-bench row"))
    if _is_foreign(path / TASK_FILE):
        raise UserError(_needs_engine(path, "a Harbor task of another maker"))
    return read_package(path)


def _needs_engine(path: Path, what: str) -> str:
    return (
        f"{path} is {what}: its tests run in an image of its own, which only a container engine can bring, and this "
        "release has none: name a task that `envfarm mine` made"
    )


def _is_foreign(path: Path) -> bool:
    """Say whether a task.toml is Harbor's and says nothing of ours; one that cannot be read is for others to refuse."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    metadata = document.get("metadata")
    ours = isinstance(metadata, dict) and isinstance(metadata.get("envfarm"), dict)
    return not ours and bool(document.keys() & {"environment", "verifier", "agent", "task", "steps"})
