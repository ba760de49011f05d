"""SWE-bench task repositories (5.x): a folder per task, written from our tasks and read from anybody's.

::

    sweb.yaml                 the data sets and splits it publishes
    tasks/ID/task.yaml        short metadata
    tasks/ID/tests.json       FAIL_TO_PASS and PASS_TO_PASS, lists
    tasks/ID/{problem_statement.md, hints.md?, gold.patch, test.patch, eval.sh, Dockerfile}
    tasks/ID/...              what the Dockerfile copies: environment/ of our folder
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from envfarm.errors import TaskError
from envfarm.formats.foreign_rows import ForeignRow, parse_row
from envfarm.formats.harbor_package import read_files
from envfarm.formats.json_text import parse_json, render_json
from envfarm.formats.new_folder import new_folder, write_file
from envfarm.formats.swebench_rows import render_eval, text_of, to_row
from envfarm.formats.yaml_text import parse_yaml
from envfarm.records.task import FIX_PATCH, TEST_PATCH, TaskPackage

_META = "task.yaml"
_TESTS = "tests.json"
_ENVIRONMENT = "environment/"
_META_FIELDS = ("instance_id", "repo", "version", "base_commit", "image", "log_parser", "eval_type", "created_at")
_COLUMNS = {
    "patch": "gold.patch",
    "test_patch": "test.patch",
    "eval_script": "eval.sh",
    "problem_statement": "problem_statement.md",
    "hints_text": "hints.md",
}


def write_repository(packages: Iterable[TaskPackage], folder: Path, *, dataset: str = "envfarm/mined") -> int:
    """Write the tasks as a task repository that appears whole, and return how many.

    Raises:
        OutputFolderError: The folder is not empty, or cannot be written.
    """
    count = 0
    with new_folder(folder) as partial:
        (partial / "tasks").mkdir()
        write_file(partial / "sweb.yaml", _render_yaml({"datasets": [dataset], "splits": ["test"]}))
        for package in packages:
            count += 1
            for name, content in render_task(package, dataset).items():
                target = partial / "tasks" / package.task.task_id / name
                write_file(target, content, executable=_is_program(name, package))
    return count


def render_task(package: TaskPackage, dataset: str) -> dict[str, bytes]:
    """Return the files of one task's folder."""
    row, plan = to_row(package), package.task.tests
    meta = {name: row[name] for name in _META_FIELDS} | {"split": "test", "datasets": [dataset]}
    tests = {"FAIL_TO_PASS": list(plan.fail_to_pass), "PASS_TO_PASS": list(plan.pass_to_pass)}
    files = {
        name.removeprefix(_ENVIRONMENT): content
        for name, content in package.files.items()
        if name.startswith(_ENVIRONMENT)
    }
    return files | {
        _META: _render_yaml(meta),
        _TESTS: render_json(tests) + b"\n",
        "problem_statement.md": package.task.statement.text.encode(),
        "gold.patch": package.files[FIX_PATCH],
        "test.patch": package.files[TEST_PATCH],
        "eval.sh": render_eval(package),
    }


def read_repository(path: Path) -> Iterator[tuple[ForeignRow, Mapping[str, bytes]]]:
    """Yield each task of a task repository as a row, with all files of its folder.

    Raises:
        TaskError: A task's file is missing or damaged; the message names it.
    """
    for meta_file in sorted(path.glob(f"tasks/*/{_META}")):
        row, files, _ = read_folder(meta_file.parent)
        yield row, files


def read_folder(folder: Path) -> tuple[ForeignRow, Mapping[str, bytes], frozenset[str]]:
    """Return one task of a task repository as a row, all files of its folder, and which of them are programs.

    Raises:
        TaskError: A file is missing or damaged; the message names it.
    """
    place = f"tasks/{folder.name}"
    files, programs = read_files(folder)
    if _META not in files:
        message = f"{place}/{_META}: it is no file"
        raise TaskError(message)
    row = _parse_yaml(files[_META], f"{place}/{_META}")
    for column, name in _COLUMNS.items():
        if name in files:
            row[column] = text_of(files[name])
    if _TESTS not in files:
        message = f"{place}/{_TESTS}: it is missing"
        raise TaskError(message)
    tests = parse_json(files[_TESTS], f"{place}/{_TESTS}")
    if not isinstance(tests, dict):
        message = f"{place}/{_TESTS}: it is no object"
        raise TaskError(message)
    return parse_row(row | tests, place), files, programs


def _parse_yaml(content: bytes, place: str) -> dict[str, Any]:
    try:
        document = parse_yaml(content.decode())
    except ValueError as error:
        message = f"{place}: it is no YAML ({error})"
        raise TaskError(message) from error
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        message = f"{place}: it is no mapping of names"
        raise TaskError(message)
    return document


def _render_yaml(document: Mapping[str, Any]) -> bytes:
    """Return the document in ASCII: unusual line breaks (U+0085, U+2028) come back only as escapes."""
    return yaml.safe_dump(dict(document), sort_keys=True, allow_unicode=False, width=10_000).encode()


def _is_program(name: str, package: TaskPackage) -> bool:
    return name == "eval.sh" or f"{_ENVIRONMENT}{name}" in package.executable
