"""SWE-bench predictions: what a policy left, as JSON lines of instance_id, model_name_or_path, model_patch."""

from collections.abc import Iterable
from pathlib import Path

from envfarm.errors import TaskError
from envfarm.formats.foreign_rows import read_rows
from envfarm.formats.json_text import render_json
from envfarm.formats.swebench_rows import text_of, write_lines
from envfarm.records.submission import Submission, SubmissionKind


def read_predictions(path: Path) -> list[Submission]:
    """Return predictions as submissions; a null or empty patch is no change.

    Raises:
        TaskError: A line is no prediction; the message names it.
    """
    found = []
    for row in read_rows(path):
        patch = row.row.get("model_patch", row.row.get("prediction", 0))
        if patch is not None and not isinstance(patch, str):
            message = f"{path}: the prediction of {row.name} has no model_patch"
            raise TaskError(message)
        kind = SubmissionKind.PATCH if patch else SubmissionKind.NO_OP
        try:
            content = (patch or "").encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            message = f"{path}: the model_patch of {row.name} holds half a character"
            raise TaskError(message) from error
        found.append(Submission(task_id=row.name, kind=kind, patch=content))
    return found


def write_predictions(submissions: Iterable[Submission], path: Path, *, model: str) -> int:
    """Write submissions as predictions of a model, and return how many.

    Raises:
        OutputFolderError: The file cannot be written.
    """
    rows = (
        {"instance_id": item.task_id, "model_name_or_path": model, "model_patch": text_of(item.patch)}
        for item in submissions
    )
    return write_lines((render_json(row) for row in rows), path)
