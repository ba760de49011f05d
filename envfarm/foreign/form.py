"""Which form a task's folder has, told by a glance: nothing heavy is imported for tasks of ours."""

import tomllib
from enum import StrEnum
from pathlib import Path

from envfarm.errors import TaskError
from envfarm.records.task import TASK_FILE

_META_FILE, _REPOSITORY_FILE = "task.yaml", "sweb.yaml"
_TABLES = frozenset({"environment", "verifier", "agent", "task", "steps"})


class Form(StrEnum):
    """The form of a task."""

    OURS = "ours"
    """One of ours, or nothing that is known."""
    HARBOR = "harbor"
    SWEBENCH = "swebench"

    @property
    def is_foreign(self) -> bool:
        """Whether another maker's own verifier judges it."""
        return self is not Form.OURS


def form_of(path: Path) -> Form:
    """Return the form of the task in a folder.

    Raises:
        TaskError: It is a whole task repository.
    """
    if (path / TASK_FILE).is_file():
        return Form.HARBOR if _is_foreign_harbor(path / TASK_FILE) else Form.OURS
    if (path / _META_FILE).is_file():
        return Form.SWEBENCH
    if (path / _REPOSITORY_FILE).is_file():
        message = f"{path} is a whole task repository: name one of its tasks, such as {path}/tasks/ID"
        raise TaskError(message)
    return Form.OURS


def _is_foreign_harbor(file: Path) -> bool:
    """Say whether a task.toml is Harbor's and says nothing of ours; one that cannot be read is for others to refuse."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    metadata = document.get("metadata")
    ours = isinstance(metadata, dict) and isinstance(metadata.get("envfarm"), dict)
    return not ours and bool(document.keys() & _TABLES)
