"""Harbor tasks of other people: kept byte for byte, their task.toml with every comment and unknown key."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import tomlkit
from tomlkit.exceptions import TOMLKitError

from envfarm.errors import TaskError
from envfarm.formats.harbor_package import read_files
from envfarm.formats.new_folder import new_folder, write_file
from envfarm.records.task import STATEMENT_FILE, TASK_FILE

_CANARY = re.compile(r"<!--.*canary.*-->|#.*canary.*", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{(?P<name>[^}:]+)(?::-(?P<default>.*))?\}", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class HarborTask:
    """A Harbor task of anybody's.

    Attributes:
        document: task.toml, editable in place without losing a byte of the rest.
        instruction: The statement, canary lines taken out; empty for a task of several steps.
        files: All files, by relative path.
        executable: Those with the executable bit.
        links: Symbolic links that stay inside of the task: their texts, by relative path.
        empty_folders: Folders without anything in them.
    """

    document: tomlkit.TOMLDocument = field(repr=False)
    instruction: str
    files: Mapping[str, bytes] = field(repr=False)
    executable: frozenset[str]
    links: Mapping[str, str] = field(default_factory=dict)
    empty_folders: tuple[str, ...] = ()


def read_foreign(path: Path) -> HarborTask:
    """Return a Harbor task folder.

    Raises:
        TaskError: It has no task.toml, that is no TOML, or a link leads out of the folder.
    """
    links = _read_links(path)
    files, executable = read_files(path, skipped=frozenset(links))
    if TASK_FILE not in files:
        message = f"{TASK_FILE}: it is missing in {path}: name a Harbor task folder"
        raise TaskError(message)
    try:
        document = tomlkit.parse(files[TASK_FILE].decode())
    except (TOMLKitError, ValueError, RecursionError) as error:
        message = f"{TASK_FILE}: it is no TOML ({error})"
        raise TaskError(message) from error
    empty = sorted(
        Path(folder).relative_to(path).as_posix()
        for folder, names, entries in os.walk(path)
        if not names and not entries
    )
    return HarborTask(
        document=document,
        instruction=strip_canary(files.get(STATEMENT_FILE, b"").decode("utf-8", "replace")),
        files=files,
        executable=executable,
        links=links,
        empty_folders=tuple(empty),
    )


def write_foreign_task(task: HarborTask, folder: Path) -> None:
    """Write the task to a new folder: every file as it came, task.toml as `document` says. It appears whole.

    Raises:
        OutputFolderError: The folder is there and not empty, or cannot be written.
    """
    with new_folder(folder) as partial:
        _fill(task, partial)


def write_foreign_tasks(tasks: Mapping[str, HarborTask], folder: Path) -> int:
    """Write tasks to folders of their own, by name, in a new folder that appears whole; return how many.

    Raises:
        OutputFolderError: The folder is there and not empty, or cannot be written.
    """
    with new_folder(folder) as partial:
        for name, task in tasks.items():
            (partial / name).mkdir()
            _fill(task, partial / name)
    return len(tasks)


def strip_canary(text: str) -> str:
    """Return an instruction without leading canary lines, and without blank lines after them."""
    lines = text.split("\n")
    first = next((number for number, line in enumerate(lines) if not _CANARY.fullmatch(line.strip())), len(lines))
    while first < len(lines) and not lines[first].strip():
        first += 1
    return "\n".join(lines[first:])


def expand_variables(values: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return environment values; one that is ``${NAME}`` or ``${NAME:-default}`` is filled from the host's variables.

    As Harbor does it, a value is a reference as a whole or not at all: ``a-${NAME}`` is itself.

    Raises:
        TaskError: A variable without default is not set.
    """

    def fill(value: str) -> str:
        match = _VARIABLE.fullmatch(value)
        if match is None:
            return value
        default: str | None = match["default"]
        found: str | None = environ.get(match["name"])
        found = default if found is None else found
        if found is None:
            message = f"{TASK_FILE}: it asks for the variable {match['name']}: set it, or give it a default"
            raise TaskError(message)
        return found

    return {key: fill(value) for key, value in values.items()}


def _fill(task: HarborTask, folder: Path) -> None:
    for name, content in {**task.files, TASK_FILE: task.document.as_string().encode()}.items():
        write_file(folder / name, content, executable=name in task.executable)
    for name in task.empty_folders:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, text in task.links.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(text)


def _read_links(path: Path) -> dict[str, str]:
    links: dict[str, str] = {}
    for folder, names, entries in os.walk(path):
        for name in [*names, *entries]:
            place = Path(folder) / name
            if not place.is_symlink():
                continue
            relative = place.relative_to(path).as_posix()
            text = os.readlink(place)  # noqa: PTH115 -- a path object would lose a trailing slash
            if not _stays_inside(PurePosixPath(relative).parent, text):
                message = f"{relative}: it is a link out of the task ({text})"
                raise TaskError(message)
            links[relative] = text
    return links


def _stays_inside(folder: PurePosixPath, text: str) -> bool:
    depth = len(folder.parts)
    for part in PurePosixPath(text).parts:
        depth += -1 if part == ".." else 1
        if depth < 0 or part == "/":
            return False
    return True
