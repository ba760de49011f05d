"""Harbor's package digest (schema 1.4): sha256 over ``relpath NUL sha256(file) LF`` of a task's files, sorted. PURE.

Which files count is Harbor's rule: a few at the top and four folders, less what a .gitignore at the top leaves out (its
absence means a short list of leftovers), less what .harborignore files leave out in tests/ and solution/, where a
folder's file also holds below it.
"""

import hashlib
import re
import warnings
from collections.abc import Mapping
from pathlib import PurePosixPath

from pathspec import GitIgnoreSpec

from envfarm.errors import TaskError

_TOP_FILES = frozenset({"task.toml", "instruction.md", "README.md", "trajectory.json"})
_TOP_FOLDERS = ("environment/", "tests/", "solution/", "steps/")
_LEFTOVERS = ("__pycache__/", "*.pyc", ".DS_Store", "*.swp", "*.swo", "*~")
_IGNORE_FILE = ".harborignore"
_IGNORE_SCOPES = GitIgnoreSpec.from_lines(("/tests/", "/solution/", "/steps/*/tests/", "/steps/*/solution/"))


def package_digest(files: Mapping[str, bytes]) -> str:
    """Return ``sha256:`` and 64 hex digits over the files that belong to a package.

    Args:
        files: Content by path relative to the task's folder, POSIX.

    Raises:
        TaskError: A pattern in one of its ignore files is none.
    """
    digest = hashlib.sha256()
    for path in packaged_paths(files):
        digest.update(f"{path}\0{hashlib.sha256(files[path]).hexdigest()}\n".encode("utf-8", "surrogateescape"))
    return f"sha256:{digest.hexdigest()}"


def packaged_paths(files: Mapping[str, bytes]) -> list[str]:
    """Return the paths that belong to a package, sorted.

    Raises:
        TaskError: A pattern in one of its ignore files is none.
    """
    rules = files.get(".gitignore")
    ignored = GitIgnoreSpec.from_lines(_LEFTOVERS) if rules is None else _spec(".gitignore", rules)
    specs = {
        PurePosixPath(path).parent: _spec(path, content)
        for path, content in files.items()
        if PurePosixPath(path).name == _IGNORE_FILE and _IGNORE_SCOPES.match_file(path)
    }
    return [
        path
        for path in sorted(files)
        if (path in _TOP_FILES or path.startswith(_TOP_FOLDERS))
        and not ignored.match_file(path)
        and not _is_left_out(path, specs)
    ]


def _is_left_out(path: str, specs: Mapping[PurePosixPath, GitIgnoreSpec]) -> bool:
    if PurePosixPath(path).name == _IGNORE_FILE:
        return True
    if not specs or not _IGNORE_SCOPES.match_file(path):
        return False
    whole = PurePosixPath(path)
    for depth in range(1, len(whole.parts) + 1):
        place = PurePosixPath(*whole.parts[:depth])
        suffix = "" if place == whole else "/"
        left_out = False
        for folder in reversed(place.parents):
            spec = specs.get(folder)
            found = spec.check_file(place.relative_to(folder).as_posix() + suffix).include if spec else None
            left_out = left_out if found is None else found
        if left_out:
            return True
    return False


def _spec(path: str, content: bytes) -> GitIgnoreSpec:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of the regular expression that a pattern becomes
            return GitIgnoreSpec.from_lines(content.decode("utf-8", "replace").splitlines())
    except (ValueError, re.error) as error:
        message = f"{path}: a pattern in it is none ({error})"
        raise TaskError(message) from error
