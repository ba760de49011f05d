"""task.toml of our own tasks: Harbor's keys, and our facts under [metadata.envfarm]. PURE; deterministic bytes.

What stands in a file of the folder does not stand in task.toml again: the statement, the lock and the test lists are
read from their files. Every other file's digest stands here, so that a damaged folder is refused by the file's name.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from typing import Any

import msgspec
import tomlkit

from envfarm.errors import TaskError
from envfarm.records.task import EXPECTED_FILE, LOCK_FILE, STATEMENT_FILE, TASK_FILE, Task

SCHEMA_VERSION = "1.4"
_MEMORY_MB, _STORAGE_MB, _CPUS = 4096, 10240, 2
_AGENT_SECONDS, _BUILD_SECONDS = 3600.0, 1800.0
_VERIFIER_SLACK = 2.0
_LISTS = ("fail_to_pass", "pass_to_pass")
_WORKSPACE = "/workspace"
"""All that Harbor carries from the agent's container to the verifier's, which is a fresh one."""


def render_task_toml(task: Task, files: Mapping[str, bytes]) -> bytes:
    """Return task.toml for the task, given its other files."""
    facts = msgspec.to_builtins(task, builtin_types=())
    facts["statement"].pop("text", None)
    facts["environment"].pop("lock", None)
    for name in _LISTS:
        facts["tests"].pop(name, None)
    facts["files"] = {path: hashlib.sha256(files[path]).hexdigest() for path in sorted(files) if path != TASK_FILE}
    document = {
        "schema_version": SCHEMA_VERSION,
        "source": "envfarm",
        "artifacts": [_WORKSPACE],
        "task": {
            "name": f"envfarm/{task.task_id}",
            "description": _first_line(task.statement.text),
            "keywords": [task.environment.language, "fix", task.source.project],
        },
        "metadata": {"envfarm": _without_none(facts)},
        "agent": {"timeout_sec": _AGENT_SECONDS},
        "verifier": {
            "timeout_sec": task.tests.run_timeout_seconds * _VERIFIER_SLACK,
            "environment_mode": "separate",
            "network_mode": "no-network",
        },
        "environment": {
            "build_timeout_sec": _BUILD_SECONDS,
            "cpus": _CPUS,
            "memory_mb": _MEMORY_MB,
            "storage_mb": _STORAGE_MB,
            "network_mode": "no-network",
            "workdir": _WORKSPACE,
        },
    }
    try:
        return tomlkit.dumps(document).encode()
    except UnicodeEncodeError as error:
        raise _damaged(
            TASK_FILE, f"a name in it is not UTF-8 ({error.object[error.start - 20 : error.end]!r})"
        ) from error


def parse_task_toml(content: bytes, files: Mapping[str, bytes]) -> Task:
    """Return the task that task.toml and its folder's other files describe.

    Raises:
        TaskError: Something is damaged or of another release; the message starts with the file's name.
    """
    facts = _facts(content)
    listed = facts.pop("files", None)
    if not isinstance(listed, dict):
        raise _damaged(TASK_FILE, "it lacks [metadata.envfarm.files]")
    _check_files(listed, files)
    schema = facts.get("schema")
    if schema != Task.schema():
        raise _damaged(TASK_FILE, f"it describes {schema!r}, this release reads {Task.schema()!r}")
    for section in ("statement", "environment", "tests"):
        if not isinstance(facts.get(section), dict):
            raise _damaged(TASK_FILE, f"it lacks [metadata.envfarm.{section}]")
    facts["statement"]["text"] = _text(STATEMENT_FILE, files)
    facts["environment"]["lock"] = _text(LOCK_FILE, files)
    expected = _expected(files)
    facts["tests"] |= {name: expected[name] for name in _LISTS}
    try:
        task = msgspec.convert(facts, Task, strict=True)
    except (msgspec.ValidationError, ValueError, TypeError, OverflowError) as error:
        raise _damaged(TASK_FILE, " ".join(str(error).split())) from error
    _check_expected(expected, task)
    return task


def _text(path: str, files: Mapping[str, bytes]) -> str:
    if path not in files:
        raise _damaged(path, "it is missing")
    try:
        return files[path].decode()
    except UnicodeDecodeError as error:
        raise _damaged(path, f"it is not UTF-8 (byte {error.start})") from error


def _expected(files: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        expected = msgspec.json.decode(_text(EXPECTED_FILE, files), type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _damaged(EXPECTED_FILE, f"it is no JSON object ({error})") from error
    for name in _LISTS:
        if name not in expected:
            raise _damaged(EXPECTED_FILE, f"it lacks {name}")
    return expected


def _check_expected(expected: Mapping[str, Any], task: Task) -> None:
    """Refuse an expected.json that would judge otherwise than task.toml says."""
    plan, environment = task.tests, task.environment
    said = {
        "paths": list(plan.paths),
        "options": list(plan.options),
        "plugins": list(environment.test_plugins),
        "test_timeout_seconds": plan.test_timeout_seconds,
        "run_timeout_seconds": plan.run_timeout_seconds,
        "protected": list(plan.protected),
        "removed_paths": list(plan.removed_paths),
        "environment_variables": environment.environment_variables,
    }
    for name, value in said.items():
        if name in expected and expected[name] != value:
            raise _damaged(EXPECTED_FILE, f"its {name} are not those of {TASK_FILE}")


def _facts(content: bytes) -> dict[str, Any]:
    try:
        document = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise _damaged(TASK_FILE, f"it is not UTF-8 (byte {error.start})") from error
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise _damaged(TASK_FILE, f"it is no TOML ({error})") from error
    metadata = document.get("metadata")
    facts = metadata.get("envfarm") if isinstance(metadata, dict) else None
    if not isinstance(facts, dict):
        raise _damaged(TASK_FILE, "it lacks [metadata.envfarm]: not a task of ours; see `envfarm task import`")
    return facts


def _check_files(listed: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    for path, digest in listed.items():
        if path not in files:
            raise _damaged(path, "it is missing")
        if hashlib.sha256(files[path]).hexdigest() != digest:
            raise _damaged(path, "its content is not what the task was published with")
    strangers = sorted(set(files) - set(listed) - {TASK_FILE})
    if strangers:
        raise _damaged(strangers[0], "it does not belong to the task")


def _damaged(path: str, why: str) -> TaskError:
    return TaskError(f"{path}: {why}: get the task again, or mine it anew")


def _without_none(value: Any) -> Any:
    """Return the value without None: TOML has no word for it, and every absent field has a default."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list | tuple) else value


def _first_line(text: str) -> str:
    lines = (line.strip("# ").strip() for line in text.splitlines())
    return next((line for line in lines if line), "")[:120]
