"""SWE-bench rows and task repositories (5.x): written from our tasks, and read from anybody's without loss.

A row holds no environment that could be rebuilt here, so an imported row is kept whole, field by field, in a folder of
its own; it is not a task that could be run before it has been validated again.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from envfarm.errors import OutputFolderError, TaskError
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import FIX_PATCH, TEST_PATCH, TaskPackage

ROW_FILE = "row.json"
_LISTS = ("FAIL_TO_PASS", "PASS_TO_PASS")
_ID_FIELDS = ("instance_id", "id")
_EVAL = """\
#!/bin/bash
set -uo pipefail
cd /workspace
git apply --whitespace=nowarn - <<'ENVFARM_TEST_PATCH'
{patch}ENVFARM_TEST_PATCH
echo '>>>>> Start Test Output'
/opt/venv/bin/python -m pytest -rA -p no:cacheprovider -o addopts= {paths}
status=$?
echo '>>>>> End Test Output'
echo ">>>>> Test Exit Code: $status"
"""


def to_row(package: TaskPackage) -> dict[str, Any]:
    """Return the task as a SWE-bench row; test lists are JSON strings, as in the older and most common shape."""
    task = package.task
    return {
        "repo": task.source.project,
        "instance_id": task.task_id,
        "base_commit": task.source.base_commit,
        "patch": _text(package.files[FIX_PATCH]),
        "test_patch": _text(package.files[TEST_PATCH]),
        "problem_statement": task.statement.text,
        "hints_text": "",
        "created_at": task.source.committed_at,
        "version": task.environment.environment_id,
        "FAIL_TO_PASS": json.dumps(task.tests.fail_to_pass),
        "PASS_TO_PASS": json.dumps(task.tests.pass_to_pass),
        "environment_setup_commit": task.source.base_commit,
        "envfarm_digest": package.digest,
    }


def write_rows(packages: Iterable[TaskPackage], path: Path) -> int:
    """Write the tasks as JSON lines, and return how many.

    Raises:
        OutputFolderError: The file cannot be written.
    """
    rows = [to_row(package) for package in packages]
    text = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        message = f"{path} cannot be written ({error.strerror}): name another --out"
        raise OutputFolderError(message) from error
    return len(rows)


def write_repository(packages: Iterable[TaskPackage], folder: Path, *, dataset: str = "envfarm/mined") -> int:
    """Write the tasks as a SWE-bench 5 task repository, and return how many.

    Raises:
        OutputFolderError: The folder is not empty, or cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        message = f"{folder} is not empty: name a new folder as --out"
        raise OutputFolderError(message)
    count = 0
    try:
        (folder / "tasks").mkdir(parents=True, exist_ok=True)
        _write_yaml(folder / "sweb.yaml", {"datasets": [dataset], "splits": ["test"]})
        for package in packages:
            _write_task(folder / "tasks" / package.task.task_id, package, dataset)
            count += 1
    except OSError as error:
        message = f"{folder} cannot be written ({error.strerror}): name another --out"
        raise OutputFolderError(message) from error
    return count


def _write_task(folder: Path, package: TaskPackage, dataset: str) -> None:
    row, task = to_row(package), package.task
    folder.mkdir()
    image = f"swebench/sweb.eval.x86_64.{task.task_id}:latest".lower().replace("__", "_1776_")
    meta = {
        "instance_id": task.task_id,
        "repo": row["repo"],
        "version": row["version"],
        "base_commit": row["base_commit"],
        "split": "test",
        "image": image,
        "log_parser": "pytest",
        "eval_type": "pass_and_fail",
        "datasets": [dataset],
        "created_at": row["created_at"],
    }
    _write_yaml(folder / "task.yaml", meta)
    tests = {name: json.loads(row[name]) for name in _LISTS}
    (folder / "tests.json").write_text(json.dumps(tests, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "problem_statement.md").write_text(task.statement.text, encoding="utf-8")
    (folder / "gold.patch").write_bytes(package.files[FIX_PATCH])
    (folder / "test.patch").write_bytes(package.files[TEST_PATCH])
    script = _EVAL.format(patch=row["test_patch"], paths=" ".join(task.tests.paths))
    (folder / "eval.sh").write_text(script, encoding="utf-8", errors="surrogateescape")
    for name, content in package.files.items():
        if name.startswith("environment/"):
            target = folder / name.removeprefix("environment/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def _write_yaml(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(document), sort_keys=True, allow_unicode=True), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class ForeignRow:
    """A row of anybody's data set, whole.

    Attributes:
        name: Its id, fit for a folder's name.
        row: All of its fields, as they came.
        fail_to_pass: Its tests, whichever field and form they came in; empty where it names none.
        pass_to_pass: The same.
    """

    name: str
    row: Mapping[str, Any]
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]


def read_rows(path: Path) -> list[ForeignRow]:
    """Return the rows of a JSON-lines file or JSON list.

    Raises:
        TaskError: It cannot be read, or a row has no id; the message names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: it cannot be read ({error}): name a file of JSON lines"
        raise TaskError(message) from error
    if text.lstrip().startswith("["):
        found = _decode(text, f"{path}")
        return [parse_row(row, f"{path}, row {number}") for number, row in enumerate(found, start=1)]
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    return [parse_row(_decode(line, f"{path}:{number}"), f"{path}:{number}") for number, line in lines]


def parse_row(row: Any, place: str) -> ForeignRow:
    """Return a row with its lists read, whichever of the known shapes it has.

    Raises:
        TaskError: It is no object, or names no instance.
    """
    if not isinstance(row, dict):
        message = f"{place}: it is no JSON object"
        raise TaskError(message)
    name = next((row[key] for key in _ID_FIELDS if isinstance(row.get(key), str)), None)
    if name is None and all(isinstance(row.get(key), str) for key in ("org", "repo")):
        name = f"{row['org']}__{row['repo']}-{row.get('number', 0)}"
    if not name or not re.fullmatch(r"[\w.-][\w.+-]*", name.replace("/", "__")) or name in {".", ".."}:
        message = f"{place}: it has no instance_id that could name a folder"
        raise TaskError(message)
    return ForeignRow(
        name=name.replace("/", "__"),
        row=row,
        fail_to_pass=_tests(row, ("FAIL_TO_PASS", "f2p_tests", "fail_to_pass")),
        pass_to_pass=_tests(row, ("PASS_TO_PASS", "p2p_tests", "pass_to_pass")),
    )


def write_foreign(rows: Iterable[ForeignRow], folder: Path) -> int:
    """Write each row to a folder of its own, every field as it came, and return how many.

    Raises:
        OutputFolderError: A folder is there already, or cannot be written.
    """
    count = 0
    for row in rows:
        target = folder / row.name
        try:
            target.mkdir(parents=True)
            text = json.dumps(row.row, ensure_ascii=False, indent=1) + "\n"
            (target / ROW_FILE).write_text(text, encoding="utf-8", errors="surrogatepass")
            count += 1
        except OSError as error:
            message = f"{target} cannot be made ({error.strerror}): name a new folder as --out"
            raise OutputFolderError(message) from error
    return count


def read_predictions(path: Path) -> list[Submission]:
    """Return SWE-bench predictions as submissions.

    Raises:
        TaskError: A line is no prediction.
    """
    found = []
    for row in read_rows(path):
        patch = row.row.get("model_patch", row.row.get("prediction"))
        if not isinstance(patch, str):
            message = f"{path}: {row.name} has no model_patch"
            raise TaskError(message)
        found.append(Submission(task_id=row.name, kind=SubmissionKind.PATCH, patch=patch.encode("utf-8", "replace")))
    return found


def _tests(row: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        value = row.get(name)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                value = [line for line in value.splitlines() if line.strip()]
        if isinstance(value, dict):
            value = list(value)
        if isinstance(value, list):
            return tuple(item for item in value if isinstance(item, str))
    return ()


def _decode(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"{place}: it is no JSON ({error})"
        raise TaskError(message) from error


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")
