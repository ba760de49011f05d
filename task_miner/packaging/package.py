"""build_package(): all that was found out about a candidate becomes the bytes of a task folder. PURE."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

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
from envfarm_verifiers.harbor_script import TEST_SH, box_program
from task_miner.packaging.container import SOLVE_SH, render_dockerfile

_BOX_PROGRAMS = ("launch.py", "report_plugin.py", "compile_catalogs.py", "place_files.py", "harbor_tests.py")


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
    """Return the task's folder, complete but for what the publish gate finds out (`with_quality`)."""
    task = parts.task
    files = {
        STATEMENT_FILE: task.statement.text.rstrip("\n").encode() + b"\n",
        DOCKERFILE: render_dockerfile(task.environment.interpreter, task.environment.environment_variables),
        LOCK_FILE: task.environment.lock.encode(),
        WORKSPACE_ARCHIVE: parts.workspace_archive,
        EXPECTED_FILE: render_expected(task),
        VALIDATION_FILE: msgspec.json.encode(parts.validation, order="deterministic") + b"\n",
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


def render_expected(task: Task) -> bytes:
    """Return tests/expected.json: what the standalone grader in the folder needs to know."""
    plan = task.tests
    return (
        msgspec.json.encode(
            {
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
            },
            order="deterministic",
        )
        + b"\n"
    )
