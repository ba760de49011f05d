"""task.toml of our own tasks: Harbor's keys, and our facts under [metadata.envfarm]. PURE; deterministic bytes.

What stands in a file of the folder does not stand in task.toml again: the statement, the lock and the test lists are
read from their files. Every file's digest stands here, so that a damaged folder is refused by the file's name; that of
task.toml itself is taken with zeros in its own place. Which files are programs stands here as well, because not every
copy of a folder keeps their modes.
"""

import hashlib
import math
import re
import tomllib
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import tomlkit

from envfarm.errors import TaskError
from envfarm.records.task import (
    EXPECTED_FILE,
    FIX_PATCH,
    LOCK_FILE,
    REFERENCE_ARCHIVE,
    STATEMENT_FILE,
    TASK_FILE,
    TEST_PATCH,
    WORKSPACE_ARCHIVE,
    Task,
)

SCHEMA_VERSION = "1.4"
_MEMORY_MB, _STORAGE_MB, _CPUS = 4096, 10240, 2
_AGENT_SECONDS, _BUILD_SECONDS = 3600.0, 1800.0
_VERIFIER_SLACK = 2.0
_LISTS = ("fail_to_pass", "pass_to_pass")
_NEEDED = (WORKSPACE_ARCHIVE, REFERENCE_ARCHIVE, TEST_PATCH, FIX_PATCH)
"""Files that nothing of a task can be done without, beside those that are read here."""
_SEAL = re.compile(rb'^\[metadata\.envfarm\.files\]\n(?:[^\[\n].*\n)*?"task\.toml" = "([0-9a-f]{64})"$', re.MULTILINE)
_ZEROS = "0" * 64
_NAME = re.compile(r"[A-Za-z0-9_][\w.+-]{0,199}", re.ASCII)
_INTERPRETER = re.compile(r"\d{1,2}\.\d{1,2}", re.ASCII)
_OTHERWISE = "its content is not what the task was published with"
_WORKSPACE = "/workspace"
"""All that Harbor carries from the agent's container to the verifier's, which is a fresh one."""


def render_task_toml(task: Task, files: Mapping[str, bytes], *, executable: Collection[str] = ()) -> bytes:
    """Return task.toml for the task, given its other files and which of them are programs.

    Raises:
        TaskError: A name in it is not UTF-8.
    """
    facts = msgspec.to_builtins(task, builtin_types=(), order="deterministic")
    facts["statement"].pop("text", None)
    facts["environment"].pop("lock", None)
    for name in _LISTS:
        facts["tests"].pop(name, None)
    facts["executable"] = sorted(executable)
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    facts["files"] = dict(sorted((digests | {TASK_FILE: _ZEROS}).items()))
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
        content = tomlkit.dumps(document).encode()
    except UnicodeEncodeError as error:
        told = error.object[max(error.start - 20, 0) : error.end]
        raise _damaged(TASK_FILE, f"a name in it is not UTF-8 ({told!r})") from error
    return _with_seal(content, hashlib.sha256(content).hexdigest())


def parse_task_toml(content: bytes, files: Mapping[str, bytes]) -> tuple[Task, frozenset[str]]:
    """Return the task that task.toml and its folder's other files describe, and which of them are programs.

    Raises:
        TaskError: Something is damaged or of another release; the message starts with the file's name.
    """
    facts = _facts(content)
    schema = facts.get("schema")
    if schema != Task.schema():
        raise _damaged(TASK_FILE, f"it describes {schema!r}, this release reads {Task.schema()!r}")
    _check_files(content, facts.pop("files", None), files)
    executable = _executable(facts.pop("executable", None))
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
    _check_facts(task)
    _check_expected(expected, task)
    return task, executable


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
        tests = expected.get(name)
        if not isinstance(tests, list) or not all(isinstance(test, str) for test in tests):
            raise _damaged(EXPECTED_FILE, f"it lacks {name}, a list of tests")
    return expected


def _check_facts(task: Task) -> None:
    """Refuse names that would lead elsewhere where they become folders of this machine, and times without an end."""
    environment, tests = task.environment, task.tests
    for name, value in {"task_id": task.task_id, "environment_id": environment.environment_id}.items():
        if not _NAME.fullmatch(value):
            raise _damaged(TASK_FILE, f"its {name} {value[:40]!r} cannot name a folder")
    if not _INTERPRETER.fullmatch(environment.interpreter):
        raise _damaged(TASK_FILE, f"its interpreter {environment.interpreter[:40]!r} is no version such as 3.12")
    if not (0 < tests.run_timeout_seconds < math.inf and 0 <= tests.test_timeout_seconds < math.inf):
        raise _damaged(TASK_FILE, "its time limits are no numbers of seconds")


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


def _check_files(content: bytes, listed: Any, files: Mapping[str, bytes]) -> None:
    """Refuse a file that is damaged, missing or a stranger, task.toml first: the other digests stand in it."""
    if not isinstance(listed, dict):
        raise _damaged(TASK_FILE, "it lacks [metadata.envfarm.files]")
    if hashlib.sha256(_with_seal(content, _ZEROS)).hexdigest() != listed.pop(TASK_FILE, None):
        raise _damaged(TASK_FILE, _OTHERWISE)
    for path, digest in listed.items():
        if path not in files:
            raise _damaged(path, "it is missing")
        if hashlib.sha256(files[path]).hexdigest() != digest:
            raise _damaged(path, _OTHERWISE)
    strangers = sorted(set(files) - set(listed) - {TASK_FILE})
    if strangers:
        raise _damaged(strangers[0], "it does not belong to the task")
    for path in _NEEDED:
        if path not in files:
            raise _damaged(path, "it is missing")


def _with_seal(content: bytes, digest: str) -> bytes:
    """Return task.toml with another digest of itself; as it is where it says none."""
    seal = _SEAL.search(content)
    return content if seal is None else content[: seal.start(1)] + digest.encode() + content[seal.end(1) :]


def _executable(listed: Any) -> frozenset[str]:
    if not isinstance(listed, list) or not all(isinstance(path, str) for path in listed):
        raise _damaged(TASK_FILE, "it lacks metadata.envfarm.executable")
    return frozenset(listed)


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
