"""What is installed must be the base's: no release of the project itself, no version that only the fix names. PURE."""

import re
import tomllib
from collections.abc import Iterator

from packaging.version import InvalidVersion, Version

from envfarm.records.task import FIX_PATCH, PROJECT_FOLDER, TEST_PATCH, Task, TaskPackage
from task_miner.quality.fix_traces import CLEAN

_VERSION = re.compile(rb"^Version:[ \t]*(\S+)", re.MULTILINE)


def find_in_lock(task: Task, project: str) -> str:
    """Return what in the lock could bring the fix, or ``clean``.

    That is: the project itself, whatever its release; a source tree or repository; releases younger than the fix.
    """
    environment = task.environment
    name = re.sub(r"[-_.]+", "[-_.]+", project)
    own = re.search(rf"^{name}\s*(\[[^\]]*\])?\s*(==|@).*$", environment.lock, re.MULTILINE | re.IGNORECASE)
    if own is not None:
        return own[0].split("\\")[0].strip()
    foreign = re.search(
        r"^(-e |--editable|\S+\s*@\s*(git\+|file:|\.)|(git\+|file:|\./)).*$", environment.lock, re.MULTILINE
    )
    if foreign is not None:
        return foreign[0].strip()
    if environment.cutoff is not None and environment.cutoff > task.source.committed_at:
        return f"releases up to {environment.cutoff}, younger than the fix"
    return CLEAN


def find_in_version(package: TaskPackage, base_pyproject: bytes) -> str:
    """Return the version that the installed project says of itself if the base does not say it, or ``clean``.

    Args:
        package: The task.
        base_pyproject: The base's pyproject.toml; empty where it has none.
    """
    said = _static_version(base_pyproject)
    patches = b"\n".join(package.files.get(path, b"") for path in (FIX_PATCH, TEST_PATCH))
    for version in _installed_versions(package):
        if said is not None and _differ(version, said):
            return f"{version}, where the base says {said}"
        if said is None and _named_by(patches, b"+", version) and not _named_by(patches, b"- ", version):
            return f"{version}, which only the fix names"
    return CLEAN


def _installed_versions(package: TaskPackage) -> Iterator[str]:
    for path, content in sorted(package.files.items()):
        if path.startswith(f"{PROJECT_FOLDER}/") and path.endswith(("/METADATA", "/PKG-INFO")):
            match = _VERSION.search(content)
            if match is not None:
                yield match[1].decode("utf-8", "replace")


def _static_version(pyproject: bytes) -> str | None:
    """Return the version that a pyproject.toml states; poetry's where poetry builds."""
    try:
        document = tomllib.loads(pyproject.decode("utf-8", "replace"))
    except tomllib.TOMLDecodeError:
        return None
    stated = _at(document, "project", "version")
    if stated is None and "poetry" in str(_at(document, "build-system", "build-backend")):
        stated = _at(document, "tool", "poetry", "version")
    return stated if isinstance(stated, str) else None


def _at(document: object, *keys: str) -> object:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _differ(one: str, other: str) -> bool:
    try:
        return Version(one) != Version(other)
    except InvalidVersion:
        return False


def _named_by(patch: bytes, marks: bytes, version: str) -> bool:
    """Say whether a line of the diff with one of the marks gives the version."""
    text = re.escape(version.encode())
    lines = rb"^[" + re.escape(marks) + rb"].*version.*(?<![\w.])" + text + rb"(?![\w.])"
    return re.search(lines, patch, re.MULTILINE | re.IGNORECASE) is not None
