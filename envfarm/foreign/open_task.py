"""Opens a folder as a task of somebody else's, whichever of the known forms it has."""

from pathlib import Path

from envfarm.errors import TaskError
from envfarm.foreign.form import Form, form_of
from envfarm.foreign.harbor_task import HarborTask, read_harbor_task
from envfarm.foreign.swebench_task import SweBenchTask, read_swebench_task


def open_foreign(path: Path) -> HarborTask | SweBenchTask:
    """Return the foreign task in a folder.

    Raises:
        TaskError: It is none, is damaged, or asks for what cannot be given.
    """
    form = form_of(path)
    if form is Form.OURS:
        message = f"{path}: it is no Harbor task of another maker, and no task of a SWE-bench task repository"
        raise TaskError(message)
    return read_harbor_task(path) if form is Form.HARBOR else read_swebench_task(path)
