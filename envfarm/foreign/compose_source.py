"""A task's docker-compose file as a compose command may read it: no other file, and no variable, of this machine. PURE.

A reader of such files opens what they include, extend or take variables from, and puts the machine's own variables into
them. So what it gets is the document written anew: names of variables carry a prefix, under which only those of the
task are told; a variable that a task has named after one of the reader's own (``PATH``, ``LD_PRELOAD``) changes nothing
of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from envfarm.errors import TaskError
from envfarm.foreign.compose_mounts import LOG_FOLDERS, TaskFiles
from envfarm.foreign.compose_values import list_of, text_of, variables_of_file
from envfarm.formats.yaml_text import parse_yaml

MAIN_SERVICE = "main"
KEEP_ALIVE = ("sh", "-c", "sleep infinity")
"""What Harbor runs in `main` unless the file says otherwise; a box stays without it."""
_MOST_BYTES = 256 * 1024
_MOST_TOLD_BYTES = 96 * 1024
"""Of variables: a kernel starts no program with one of 128 KiB."""
_PREFIX = "TASK_VARIABLE_"
_REFERENCE = re.compile(r"\$(\$|\{)?([A-Za-z_][A-Za-z0-9_]*)?")
_REFERRING = re.compile(rb"\$[A-Za-z_{]")
_VARIABLES_FILE = ".env"
_READERS = ("include", "secrets", "configs")


@dataclass(frozen=True, kw_only=True)
class ComposeSource:
    """What a compose command gets.

    Attributes:
        documents: The files, in the order in which they are laid over each other.
        variables: Of its environment.
        opened: Paths below environment/ of the files that it opens beside them.
    """

    documents: tuple[Any, ...]
    variables: Mapping[str, str] = field(repr=False)
    opened: frozenset[str] = frozenset()


def prepare_source(
    text: bytes, files: TaskFiles, variables: Mapping[str, str], image_name: str | None
) -> ComposeSource:
    """Return what a compose command gets to read for a task's file.

    Args:
        text: The file.
        files: The files of environment/.
        variables: Those of the task, filled in.
        image_name: The image that task.toml names for `main`; None where environment/ is built.

    Raises:
        TaskError: It is no compose file, or reads from elsewhere.
    """
    known = {**_of_file(files), **variables, **_of_harbor(files, image_name)}
    if sum(len(name.encode()) + len(value.encode()) for name, value in known.items()) > _MOST_TOLD_BYTES:
        message = f"{files.told_as}: its variables have more than {_MOST_TOLD_BYTES >> 10} KiB"
        raise TaskError(message)
    document, opened = _checked(text, files, known)
    main: dict[str, Any] = {"image": image_name} if image_name is not None else {"build": {"context": files.root}}
    base = {"services": {MAIN_SERVICE: {**main, "command": list(KEEP_ALIVE)}}}
    told = {f"{_PREFIX}{name}": value for name, value in known.items()}
    return ComposeSource(documents=(base, document), variables=told, opened=opened)


def named_services(text: bytes, told_as: str) -> frozenset[str]:
    """Return the names of a compose file's services that run without a profile, `main` in any case.

    Raises:
        TaskError: It is no compose file.
    """
    services = _services(_parsed(text, told_as), told_as)
    return frozenset({MAIN_SERVICE, *(name for name, table in services.items() if not table.get("profiles"))})


def _parsed(text: bytes, told_as: str) -> dict[str, Any]:
    if len(text) > _MOST_BYTES:
        message = f"{told_as}: it has more than {_MOST_BYTES >> 10} KiB: that is no description of services"
        raise TaskError(message)
    try:
        document = parse_yaml(text.decode("utf-8"), is_core=True)
    except ValueError as error:
        message = f"{told_as}: it is no YAML ({error})"
        raise TaskError(message) from error
    if not isinstance(document, dict) or not isinstance(document.get("services"), dict):
        message = f"{told_as}: it has no services"
        raise TaskError(message)
    return document


def _services(document: dict[str, Any], told_as: str) -> dict[str, dict[str, Any]]:
    found = {}
    for name, table in document["services"].items():
        if not isinstance(name, str) or not name.isprintable() or not isinstance(table, dict | None):
            told = name if str(name).isprintable() else repr(name)
            message = f"{told_as}: services.{told}: it is no service"
            raise TaskError(message)
        found[name] = dict(table or {})
    return found


def _checked(text: bytes, files: TaskFiles, known: Mapping[str, str]) -> tuple[Any, frozenset[str]]:
    document = _parsed(text, files.told_as)
    for key in _READERS:
        if document.get(key):
            message = f"{files.told_as}: {key}: it is not given here"
            raise TaskError(message)
    opened: set[str] = set()
    services = _services(document, files.told_as)
    for name, table in services.items():
        place = f"{files.told_as}: services.{name}"
        if name == MAIN_SERVICE:
            table.pop("profiles", None)  # it is the box, whatever is chosen; version 2 would leave it out
        extended = table.get("extends")
        if isinstance(extended, dict) and "file" in extended:
            message = f"{place}.extends: it reads another file, which is not done here"
            raise TaskError(message)
        for key in ("label_file", "provider", "credential_spec"):
            if key in table:
                message = f"{place}.{key}: it is not given here"
                raise TaskError(message)
        opened |= _opened(place, table.get("env_file"), files)
        if "environment" in table:
            table["environment"] = _filled(f"{place}.environment", table["environment"], known)
        build = table.get("build")
        if isinstance(build, dict) and "args" in build:
            table["build"] = {**build, "args": _filled(f"{place}.build.args", build["args"], known)}
    return _renamed({**document, "services": services}), frozenset(opened)


def _opened(place: str, value: Any, files: TaskFiles) -> set[str]:
    found = set()
    for entry in list_of(value):
        path = entry.get("path") if isinstance(entry, dict) else entry
        try:
            told = text_of(path)
            inside = files.inside(told)
        except ValueError as error:
            message = f"{place}.env_file: it {error}"
            raise TaskError(message) from error
        is_needed = not isinstance(entry, dict) or entry.get("required", True)
        # a reader takes `~root/x` for a file in the home of this machine's root
        if "$" in told or told.startswith("~") or (inside not in files.content and is_needed):
            message = f"{place}.env_file: {told[:80]!r} is no file of {files.name}/"
            raise TaskError(message)
        if _REFERRING.search(files.content.get(inside, b"")):
            message = f"{place}.env_file: {told[:80]!r} refers to variables, and readers differ on which: write values"
            raise TaskError(message)
        found |= {inside} & files.content.keys()
    return found


def _filled(place: str, value: Any, known: Mapping[str, str]) -> Any:
    """Return variables at a place, those that are named alone with their values of the task, or none."""
    if isinstance(value, list):
        pairs = [str(item).partition("=") for item in value]
        value = {name: text if equals else None for name, equals, text in pairs}
    if not isinstance(value, dict):
        message = f"{place}: it is no list of variables"
        raise TaskError(message)
    found = {}
    for name, item in value.items():
        if item is not None:
            found[name] = str(item).lower() if isinstance(item, bool) else item
        elif name in known:
            found[name] = known[name].replace("$", "$$")
    return found


def _renamed(value: Any) -> Any:
    """Return a document whose references to variables have the prefix."""
    if isinstance(value, str):
        return _REFERENCE.sub(_with_prefix, value)
    if isinstance(value, dict):
        return {key: _renamed(item) for key, item in value.items()}
    return [_renamed(item) for item in value] if isinstance(value, list) else value


def _with_prefix(match: re.Match[str]) -> str:
    mark, name = match[1] or "", match[2] or ""
    return match[0] if mark == "$" or not name else f"${mark}{_PREFIX}{name}"


def _of_file(files: TaskFiles) -> dict[str, str]:
    try:
        return variables_of_file(files.content.get(_VARIABLES_FILE, b"").decode("utf-8", "replace"))
    except ValueError as error:
        message = f"{files.name}/{_VARIABLES_FILE}: it {error}"
        raise TaskError(message) from error


def _of_harbor(files: TaskFiles, image_name: str | None) -> dict[str, str]:
    """Return the variables that Harbor tells compose files."""
    found = {"CONTEXT_DIR": files.root, "MAIN_IMAGE_NAME": "envfarm-main"}
    if image_name is not None:
        found["PREBUILT_IMAGE_NAME"] = image_name
    for folder, word in (("verifier", "VERIFIER_LOGS"), ("agent", "AGENT_LOGS"), ("artifacts", "ARTIFACTS")):
        found[f"HOST_{word}_PATH"] = f"{LOG_FOLDERS}/{folder}"
        found[f"ENV_{word}_PATH"] = f"/logs/{folder}"
    return found
