"""Harbor tasks of other people: kept byte for byte, their task.toml with every comment and unknown key."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError

from envfarm.errors import OutputFolderError, TaskError
from envfarm.formats.harbor_package import read_files

_CANARY = re.compile(r"\A(?:[ \t]*(?:<!--.*canary.*-->|#.*canary.*)[ \t]*\r?\n)+", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}")


@dataclass(frozen=True, kw_only=True)
class HarborTask:
    """A Harbor task of anybody's.

    Attributes:
        document: task.toml, editable in place without losing a byte of the rest.
        instruction: The statement, canary lines taken out; empty for a task of several steps.
        files: All files, by relative path.
        executable: Those with the executable bit.
    """

    document: tomlkit.TOMLDocument = field(repr=False)
    instruction: str
    files: Mapping[str, bytes] = field(repr=False)
    executable: frozenset[str]


def read_foreign(path: Path) -> HarborTask:
    """Return a Harbor task folder.

    Raises:
        TaskError: It has no task.toml, or that is no TOML.
    """
    files, executable = read_files(path)
    if "task.toml" not in files:
        message = f"{path}/task.toml: it is missing: name a Harbor task folder"
        raise TaskError(message)
    try:
        document = tomlkit.parse(files["task.toml"].decode())
    except (TOMLKitError, UnicodeDecodeError, RecursionError) as error:
        message = f"task.toml: it is no TOML ({error})"
        raise TaskError(message) from error
    text = files.get("instruction.md", b"").decode("utf-8", "replace")
    return HarborTask(document=document, instruction=strip_canary(text), files=files, executable=executable)


def write_foreign_task(task: HarborTask, folder: Path) -> None:
    """Write the task to a new folder: every file as it came, task.toml as `document` says.

    Raises:
        OutputFolderError: The folder exists, or cannot be written.
    """
    if folder.exists():
        message = f"{folder} exists already: name a new folder as --out"
        raise OutputFolderError(message)
    try:
        for name, content in {**task.files, "task.toml": task.document.as_string().encode()}.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o755 if name in task.executable else 0o644)
    except OSError as error:
        message = f"{folder} cannot be written ({error.strerror}): name another --out"
        raise OutputFolderError(message) from error


def strip_canary(text: str) -> str:
    """Return an instruction without leading canary lines."""
    return _CANARY.sub("", text)


def expand_variables(values: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return environment values with ``${NAME}`` and ``${NAME:-default}`` filled in from the host's variables.

    Raises:
        TaskError: A variable without default is not set.
    """

    def fill(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if name in environ:
            return environ[name]
        if default is None:
            message = f"task.toml: it asks for the variable {name}: set it, or give it a default"
            raise TaskError(message)
        return default

    return {key: _VARIABLE.sub(fill, value) for key, value in values.items()}
