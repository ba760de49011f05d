"""Opens a path as a task of somebody else's, whichever of the known forms it has."""

import tomllib
from pathlib import Path

from envfarm.errors import TaskError
from envfarm.foreign.harbor_task import HarborTask, read_harbor_task
from envfarm.foreign.swebench_task import SweBenchTask, read_swebench_task
from envfarm.records.task import TASK_FILE

_META_FILE = "task.yaml"


def open_foreign(path: Path) -> HarborTask | SweBenchTask | None:
    """Return the foreign task in a folder; None where it is none that is known, or one of ours.

    Raises:
        TaskError: It is a foreign one, and damaged or refused.
    """
    if is_foreign(path):
        return read_harbor_task(path) if (path / TASK_FILE).is_file() else read_swebench_task(path)
    if (path / "sweb.yaml").is_file():
        message = f"{path} is a whole task repository: name one of its tasks, such as {path}/tasks/ID"
        raise TaskError(message)
    return None


def is_foreign(path: Path) -> bool:
    """Say whether a folder is a foreign task that can be judged, without reading all of it."""
    has_harbor = (path / TASK_FILE).is_file()
    return is_foreign_harbor(path / TASK_FILE) if has_harbor else (path / _META_FILE).is_file()


def is_foreign_harbor(file: Path) -> bool:
    """Say whether a task.toml is Harbor's and says nothing of ours; one that cannot be read is for others to refuse."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    metadata = document.get("metadata")
    ours = isinstance(metadata, dict) and isinstance(metadata.get("envfarm"), dict)
    return not ours and bool(document.keys() & {"environment", "verifier", "agent", "task", "steps"})
