"""build_package(): all that was found out about a candidate becomes the bytes of a task folder. PURE."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from envfarm.errors import TaskError
from envfarm.formats.harbor import package_digest, render_task_toml
from envfarm.records.task import (
    DOCKERFILE,
    EXPECTED_FILE,
    FIX_PATCH,
    LOCK_FILE,
    PROJECT_FOLDER,
    REFERENCE_ARCHIVE,
    STATEMENT_FILE,
    TASK_FILE,
    TEST_PATCH,
    VALIDATION_FILE,
    WORKSPACE_ARCHIVE,
    Quality,
    Task,
    TaskPackage,
    ValidationRecord,
)
from envfarm.records.trust import TRUST_FILE, TrustPlan
from envfarm_verifiers.harbor_script import TEST_SH, box_program
from envfarm_verifiers.trust_file import render_trust
from task_miner.packaging.container import SOLVE_SH, render_dockerfile

_BOX_PROGRAMS = (
    "launch.py",
    "record_pipe.py",
    "session_record.py",
    "report_plugin.py",
    "compile_catalogs.py",
    "place_files.py",
    "harbor_tests.py",
)


@dataclass(frozen=True, kw_only=True)
class PackageParts:
    """What a task folder is made of.

    Attributes:
        task: The task, its lists filled in.
        validation: All runs, the proof behind the lists.
        workspace_archive: /workspace before a policy starts.
        reference_archive: Protected files as they have to be when the tests run.
        test_patch: The test side as a diff, for people and other formats.
        fix_patch: The true fix.
        project_files: What lies at /opt/project.
        project_executables: Those of them that are programs.
    """

    task: Task
    validation: ValidationRecord
    workspace_archive: bytes = field(repr=False)
    reference_archive: bytes = field(repr=False)
    test_patch: bytes = field(repr=False)
    fix_patch: bytes = field(repr=False)
    project_files: Mapping[str, bytes] = field(repr=False)
    project_executables: frozenset[str] = frozenset()


def build_package(parts: PackageParts) -> TaskPackage:
    """Return the task's folder, complete but for what the publish gate finds out (`with_quality`).

    The task in it is the one that reading the folder gives: its statement is the text of the statement's file, which
    ends with one line break, half a character in it replaced.

    Raises:
        TaskError: A name in it is not UTF-8.
    """
    statement = (parts.task.statement.text.rstrip("\n") + "\n").encode("utf-8", "replace")
    task = msgspec.structs.replace(
        parts.task, statement=msgspec.structs.replace(parts.task.statement, text=statement.decode())
    )
    files = {
        STATEMENT_FILE: statement,
        DOCKERFILE: render_dockerfile(task.environment.interpreter, task.environment.environment_variables),
        LOCK_FILE: task.environment.lock.encode(),
        WORKSPACE_ARCHIVE: parts.workspace_archive,
        EXPECTED_FILE: render_expected(task),
        VALIDATION_FILE: _render_json(VALIDATION_FILE, parts.validation),
        REFERENCE_ARCHIVE: parts.reference_archive,
        TEST_PATCH: parts.test_patch,
        "tests/test.sh": TEST_SH.encode(),
        FIX_PATCH: parts.fix_patch,
        "solution/solve.sh": SOLVE_SH,
    }
    files |= {f"tests/{name}": box_program(name) for name in _BOX_PROGRAMS}
    files |= {f"{PROJECT_FOLDER}/{path}": content for path, content in parts.project_files.items()}
    programs = {f"{PROJECT_FOLDER}/{path}" for path in parts.project_executables}
    package = TaskPackage(
        task=task, files=files, executable=frozenset({"tests/test.sh", "solution/solve.sh"} | programs)
    )
    return with_quality(package, task.quality)


def with_quality(package: TaskPackage, quality: Quality) -> TaskPackage:
    """Return the package with what the publish gate found out; only task.toml and the digest change."""
    task = msgspec.structs.replace(package.task, quality=quality)
    files = {path: content for path, content in package.files.items() if path != TASK_FILE}
    files[TASK_FILE] = render_task_toml(task, files, executable=package.executable)
    return replace(package, task=task, files=files, digest=package_digest(files))


def with_trust(package: TaskPackage, plan: TrustPlan) -> TaskPackage:
    """Return the package with what the layers against forged passes know of it."""
    files = {**package.files, TRUST_FILE: render_trust(plan)}
    return with_quality(replace(package, files=files), package.task.quality)


def render_expected(task: Task) -> bytes:
    """Return tests/expected.json: what the standalone grader in the folder needs to know.

    Raises:
        TaskError: A name in it is not UTF-8.
    """
    plan = task.tests
    expected = {
        "fail_to_pass": plan.fail_to_pass,
        "pass_to_pass": plan.pass_to_pass,
        "paths": plan.paths,
        "options": plan.options,
        "plugins": task.environment.test_plugins,
        "test_timeout_seconds": plan.test_timeout_seconds,
        "run_timeout_seconds": plan.run_timeout_seconds,
        "protected": plan.protected,
        "removed_paths": plan.removed_paths,
        "environment_variables": task.environment.environment_variables,
    }
    return _render_json(EXPECTED_FILE, expected)


def _render_json(path: str, value: object) -> bytes:
    try:
        return msgspec.json.encode(value, order="deterministic") + b"\n"
    except UnicodeEncodeError as error:
        message = f"{path}: a name in it is not UTF-8 ({error.object[:80]!r}): rename that file of the repository"
        raise TaskError(message) from error
