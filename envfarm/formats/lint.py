"""Problems of a Harbor task folder: Harbor's own lint ids, and ours, which start with ``envfarm-``.

Harbor's rules are told apart by what they need: the shape of task.toml (here), and commands and images in Dockerfiles
and scripts (`lint_commands`), compose files (`lint_compose`). Nothing is run and nothing is fetched.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from envfarm.errors import TaskError
from envfarm.formats.harbor_package import read_files
from envfarm.formats.harbor_toml import parse_task_toml
from envfarm.formats.lint_commands import lint_dockerfile, lint_script
from envfarm.formats.lint_compose import lint_compose
from envfarm.records.task import DOCKERFILE, STATEMENT_FILE, TASK_FILE, Task

LARGEST_BYTES = 5 << 20
_KEYS: Mapping[str, frozenset[str]] = {
    "": frozenset(
        {
            "schema_version",
            "version",
            "source",
            "multi_step_reward_strategy",
            "artifacts",
            "task",
            "metadata",
            "agent",
            "verifier",
            "environment",
            "solution",
            "steps",
        }
    ),
    "task": frozenset({"name", "version", "description", "authors", "keywords"}),
    "agent": frozenset({"timeout_sec", "user", "network_mode", "allowed_hosts"}),
    "verifier": frozenset(
        {"timeout_sec", "env", "user", "environment_mode", "network_mode", "allowed_hosts", "environment", "collect"}
    ),
    "environment": frozenset(
        {
            "build_timeout_sec",
            "docker_image",
            "os",
            "cpus",
            "memory_mb",
            "storage_mb",
            "gpus",
            "gpu_types",
            "tpu",
            "mcp_servers",
            "env",
            "skills_dir",
            "workdir",
            "network_mode",
            "allowed_hosts",
            "healthcheck",
            "allow_internet",
            "memory",
            "storage",
        }
    ),
    "solution": frozenset({"env"}),
}
_LOG_FOLDER = "/logs/"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem of a task folder.

    Attributes:
        rule: The lint id.
        file: The file at fault, relative to the folder.
        message: What is wrong, in words.
        line: Its line, where there is one.
        severity: error, or warning.
    """

    rule: str
    file: str
    message: str
    line: int | None = None
    severity: str = "error"


def lint_task(path: Path) -> list[Problem]:
    """Return all problems of a task folder, ours or anybody's, in the order of files.

    Raises:
        TaskError: It is no folder, or cannot be read.
    """
    files, _ = read_files(path)
    problems = list(_layout(files))
    document = _document(files, problems)
    problems += _config(document)
    for name, content in sorted(files.items()):
        text = content.decode("utf-8", "replace")
        if Path(name).name == "Dockerfile":
            problems += [Problem(rule=r, file=name, line=n, message=m) for r, n, m in lint_dockerfile(name, text)]
        elif name.startswith("tests/") and name.endswith(".sh"):
            problems += [Problem(rule=r, file=name, line=n, message=m) for r, n, m in lint_script(text)]
        elif Path(name).name in {"docker-compose.yaml", "docker-compose.yml"}:
            problems += [Problem(rule=r, file=name, message=m) for r, m in lint_compose(text)]
    if isinstance(document.get("metadata"), dict) and "envfarm" in document["metadata"]:
        problems += _ours(files)
    return sorted(problems, key=lambda item: (item.file, item.line or 0, item.rule))


def _layout(files: Mapping[str, bytes]) -> Iterator[Problem]:
    steps = any(name.startswith("steps/") for name in files)
    if TASK_FILE not in files:
        yield Problem(rule="invalid-task-files", file=TASK_FILE, message="it is missing")
    if STATEMENT_FILE not in files and not steps:
        yield Problem(rule="invalid-task-files", file=STATEMENT_FILE, message="it is missing")
    if not steps and not any(name in files for name in ("tests/test.sh", "tests/test.bat")):
        yield Problem(rule="invalid-task-files", file="tests/test.sh", message="it is missing")


def _document(files: Mapping[str, bytes], problems: list[Problem]) -> dict[str, Any]:
    try:
        return tomlkit.parse(files.get(TASK_FILE, b"").decode()).unwrap()
    except (TOMLKitError, ValueError, RecursionError) as error:
        problems.append(Problem(rule="invalid-task-config", file=TASK_FILE, message=f"it is no TOML: {error}"))
        return {}


def _config(document: Mapping[str, Any]) -> Iterator[Problem]:
    def problem(rule: str, message: str, severity: str = "error") -> Problem:
        return Problem(rule=rule, file=TASK_FILE, message=message, severity=severity)

    for section, known in _KEYS.items():
        table = document if not section else document.get(section, {})
        if not isinstance(table, dict):
            yield problem("invalid-task-config", f"{section} is no table")
            continue
        for key in sorted(set(table) - known):
            yield problem("unknown-config-field", f"{section + '.' if section else ''}{key} is no field of Harbor's")
    version = document.get("schema_version", document.get("version"))
    if document and not re.fullmatch(r"1\.\d+", str(version)):
        yield problem("invalid-task-config", f"schema_version is {version!r}, known are 1.0 to 1.4")
    verifier, agent = _table(document, "verifier"), _table(document, "agent")
    if document and verifier.get("environment_mode") != "separate" and "environment" not in verifier:
        yield problem("shared-verifier", "the verifier runs in the agent's own container", "warning")
    if agent.get("user") in {"root", 0}:
        yield problem("root-agent", "the agent runs as root", "warning")
    yield from (problem(rule, message) for rule, message in _artifacts(document.get("artifacts", [])))
    image = _table(document, "environment").get("docker_image")
    if isinstance(image, str) and "@sha256:" not in image:
        yield problem("unpinned-image", f"the image {image} is not named by its digest", "warning")


def _artifacts(entries: Any) -> Iterator[tuple[str, str]]:
    sources = [entry.get("source") if isinstance(entry, dict) else entry for entry in entries or []]
    paths = [path.rstrip("/") for path in sources if isinstance(path, str)]
    for path in paths:
        if f"{path}/".startswith(_LOG_FOLDER) or _LOG_FOLDER.startswith(f"{path}/"):
            yield "artifact-log-overlap", f"the artifact {path} overlaps the folder of logs"
    for number, path in enumerate(paths):
        for other in paths[:number]:
            if f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/"):
                yield "overlapping-artifacts", f"the artifacts {other} and {path} overlap"


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _ours(files: Mapping[str, bytes]) -> Iterator[Problem]:
    try:
        task = parse_task_toml(files.get(TASK_FILE, b""), files)
    except TaskError as error:
        file, _, message = str(error).partition(": ")
        yield Problem(rule="envfarm-damaged", file=file, message=message)
        return
    size = sum(map(len, files.values()))
    if size > LARGEST_BYTES:
        yield Problem(
            rule="envfarm-large", file=TASK_FILE, message=f"the task has {size >> 20} MiB", severity="warning"
        )
    yield from _facts(task)
    visible = {name: files[name] for name in (STATEMENT_FILE, DOCKERFILE) if name in files}
    for name, content in visible.items():
        for line in _fix_lines(files.get("solution/fix.patch", b"")):
            if line in content:
                told = line.decode("utf-8", "replace").strip()[:60]
                yield Problem(rule="envfarm-leak", file=name, message=f"it holds a line of the fix: {told}")
                break


def _facts(task: Task) -> Iterator[Problem]:
    def problem(rule: str, message: str) -> Problem:
        return Problem(rule=rule, file="tests/expected.json", message=message)

    wanted, kept = task.tests.fail_to_pass, task.tests.pass_to_pass
    if not wanted:
        yield problem("envfarm-nothing-to-pass", "no test has to go from failing to passing")
    if both := sorted(set(wanted) & set(kept)):
        yield problem("envfarm-overlapping-lists", f"{both[0]} is in both lists")
    if list(wanted) != sorted(wanted) or list(kept) != sorted(kept):
        yield problem("envfarm-unsorted-lists", "the lists of tests are not sorted")
    lines = [line for line in task.environment.lock.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    if lines and "--hash=sha256:" not in task.environment.lock:
        yield Problem(
            rule="envfarm-lock-without-hashes", file="environment/requirements.txt", message="it has no hashes"
        )
    certificate = task.quality.leak_certificate
    if certificate is None or any(said != "clean" for said in certificate.checks.values()):
        yield Problem(rule="envfarm-no-certificate", file=TASK_FILE, message="no clean leak certificate")


def _fix_lines(patch: bytes) -> Iterable[bytes]:
    for line in patch.split(b"\n"):
        text = line[1:].strip()
        if line.startswith(b"+") and not line.startswith(b"+++") and len(text) >= 40 and not text.startswith(b"#"):  # noqa: PLR2004 -- shorter lines are anybody's
            yield text
