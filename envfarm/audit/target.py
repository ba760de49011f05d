"""Reads out of a task folder what cheats are made from."""

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from envfarm.audit.cheat import CheatTarget
from envfarm.errors import MissingToolError, TaskError
from envfarm.grading.patch_lines import PatchError
from envfarm.grading.patch_reader import read_sections
from envfarm.grading.protected_paths import matches
from envfarm.records.task import FIX_PATCH, REFERENCE_ARCHIVE, WORKSPACE_ARCHIVE, TaskPackage

LOOKED_AT = frozenset({"conftest.py", "pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml"})
"""Names of files that cheats may start from, beside those that the fix and the tests change."""
_MOST_BYTES = 8 << 20


def read_target(package: TaskPackage) -> CheatTarget:
    """Return the facts of a task that its cheats are made from.

    Raises:
        TaskError: The task lacks its workspace, its hidden tests or its fix, or one of them is damaged.
        MissingToolError: git is not installed.
    """
    base = _read_archive(package, WORKSPACE_ARCHIVE)
    reference = _read_archive(package, REFERENCE_ARCHIVE)
    fix = _member(package, FIX_PATCH)
    paths = paths_of(fix)
    tests = package.task.tests
    hidden = {path: text for path, text in reference.items() if path in tests.paths or base.get(path) != text}
    fixed = apply_diff({path: base[path] for path in paths if path in base}, fix, paths)
    looked_at = {path: text for path, text in base.items() if PurePosixPath(path).name in LOOKED_AT or path in fixed}
    return CheatTarget(
        sources={path: base.get(path) for path in paths if not matches(path, tests.protected)},
        tests={path: base[path] for path in tests.paths if path in base},
        base=looked_at,
        paths=frozenset(base),
        fail_to_pass=tests.fail_to_pass,
        pass_to_pass=tests.pass_to_pass,
        hidden_tests=hidden,
        fixed=fixed,
    )


def _member(package: TaskPackage, name: str) -> bytes:
    if name not in package.files:
        message = f"{name}: it is missing, and cheats are made from it"
        raise TaskError(message)
    return package.files[name]


def _read_archive(package: TaskPackage, name: str) -> dict[str, bytes]:
    """Return the regular files of an archive but those of repositories."""
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(_member(package, name)), mode="r:*", errors="surrogateescape") as archive:
            for member in archive:
                if member.isreg() and ".git" not in PurePosixPath(member.name).parts and member.size <= _MOST_BYTES:
                    content = archive.extractfile(member)
                    found[member.name] = content.read() if content is not None else b""
    except (tarfile.TarError, OSError, EOFError) as error:
        message = f"{name}: it is damaged ({error})"
        raise TaskError(message) from error
    return found


def paths_of(fix: bytes) -> tuple[str, ...]:
    """Return the files that a diff touches, each once.

    Raises:
        TaskError: It is no diff.
    """
    try:
        sections = read_sections(fix)
    except PatchError as error:
        message = f"{FIX_PATCH}: it is no diff ({error})"
        raise TaskError(message) from error
    return tuple(dict.fromkeys(path for section in sections for path in section.paths))


def apply_diff(base: Mapping[str, bytes], fix: bytes, paths: tuple[str, ...]) -> dict[str, bytes | None]:
    """Return what the files of a diff hold once git has applied it; None for one that is gone, or is no regular file.

    Args:
        base: What they hold before; one that is missing is not there.
        fix: The diff.
        paths: The files.

    Raises:
        TaskError: It does not apply.
        MissingToolError: git is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="envfarm-audit-") as folder:
        place = Path(folder)
        for path, content in base.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(content)
        variables = {"GIT_DIR": str(place / ".none"), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
        command = ["git", "apply", "-p1", "--whitespace=nowarn", "-"]
        try:
            done = subprocess.run(command, cwd=place, env=variables, input=fix, capture_output=True, check=False)
        except FileNotFoundError as error:
            message = "git is not installed: apt-get install git"
            raise MissingToolError(message) from error
        if done.returncode != 0:
            message = f"{FIX_PATCH}: it does not apply: {done.stderr.decode('utf-8', 'replace').strip()[:500]}"
            raise TaskError(message)
        return {path: (place / path).read_bytes() if (place / path).is_file() else None for path in paths}
