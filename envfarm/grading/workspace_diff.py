"""Makes a submission's patch from a workspace that somebody worked in.

Nothing in the workspace is trusted: this file walks it itself and opens regular files only; git sees a stream of paths
and bytes in a repository of its own, so no configuration, filter, attribute or hook of the workspace is ever read.

Not covered: empty folders, modes beyond the executable bit, devices, sockets and pipes: no diff can carry them.
"""

import errno
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio.to_thread

from envfarm.errors import MissingToolError, UserError
from envfarm.grading.path_quoting import quote

_LEFT_OUT_FOLDERS = frozenset(
    {".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".tox", ".nox"}
)
_LEFT_OUT_SUFFIXES = (".pyc", ".pyo")
_DIFF = ("diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv")
_GIT_VARIABLES = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_ATTR_NOSYSTEM": "1", "LC_ALL": "C"}
_REGULAR, _EXECUTABLE, _LINK = b"100644", b"100755", b"120000"


async def diff_workspace(base_folder: Path, workspace_folder: Path) -> bytes:
    """Return the diff from a base to a changed copy of it, in git's form, binary data included; empty for none.

    Repositories (``.git``) and caches of test runners and interpreters count for nothing. Links stay links.

    Args:
        base_folder: The workspace as it was.
        workspace_folder: The workspace as it is now.

    Raises:
        UserError: A folder is missing or cannot be read.
        MissingToolError: git is not installed.
    """
    return await anyio.to_thread.run_sync(_diff, base_folder, workspace_folder)


@dataclass(frozen=True)
class _Entry:
    mode: bytes
    content: bytes = field(repr=False)


def _diff(base_folder: Path, workspace_folder: Path) -> bytes:
    try:
        old, new = (dict(_walk(str(folder))) for folder in (base_folder, workspace_folder))
        changed = sorted(path for path in old.keys() | new.keys() if not _same(old.get(path), new.get(path)))
        sides = [{path: _read(side[path]) for path in changed if path in side} for side in (old, new)]
    except OSError as error:
        message = f"{error.filename}: the workspace cannot be read ({error.strerror})"
        raise UserError(message) from error
    return _run_git_diff(*sides) if changed else b""


def _walk(folder: str, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield regular files and links below a folder by relative path; nothing is followed."""
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _LEFT_OUT_FOLDERS:
                yield from _walk(entry.path, f"{prefix}{entry.name}/")
        elif _counts(entry):
            yield prefix + entry.name, entry


def _counts(entry: os.DirEntry[str]) -> bool:
    left_out = entry.name == ".git" or entry.name.endswith(_LEFT_OUT_SUFFIXES)
    return not left_out and (entry.is_symlink() or entry.is_file(follow_symlinks=False))


def _same(old: os.DirEntry[str] | None, new: os.DirEntry[str] | None) -> bool:
    if old is None or new is None:
        return False
    before, after = old.stat(follow_symlinks=False), new.stat(follow_symlinks=False)
    if before.st_size != after.st_size or _mode(before) != _mode(after):
        return False
    return os.path.samestat(before, after) or _read(old) == _read(new)


def _mode(facts: os.stat_result) -> bytes:
    if stat.S_ISLNK(facts.st_mode):
        return _LINK
    return _EXECUTABLE if facts.st_mode & stat.S_IXUSR else _REGULAR


def _read(entry: os.DirEntry[str]) -> _Entry:
    """Read a file or a link's target; a file that became something else meanwhile is an error, never followed."""
    if entry.is_symlink():
        return _Entry(_LINK, os.fsencode(Path(entry.path).readlink()))
    descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file any more", entry.path)
        return _Entry(_mode(facts), file.read())


def _run_git_diff(old: dict[str, _Entry], new: dict[str, _Entry]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="envfarm-diff-") as folder:
        _git(folder, "init", "--quiet", "--bare", "--template=", ".")
        _git(folder, "fast-import", "--quiet", stdin=_commit("old", old) + _commit("new", new))
        return _git(folder, *_DIFF, "refs/heads/old", "refs/heads/new")


def _commit(name: str, files: dict[str, _Entry]) -> bytes:
    parts = [b"commit refs/heads/%s\ncommitter envfarm <envfarm> 0 +0000\ndata 0\n" % name.encode()]
    for path, entry in files.items():
        quoted = quote(path, always=True)
        parts.append(b"M %s inline %s\ndata %d\n%s\n" % (entry.mode, quoted, len(entry.content), entry.content))
    return b"".join(parts)


def _git(folder: str, *arguments: str, stdin: bytes = b"") -> bytes:
    variables = {"PATH": os.environ.get("PATH", os.defpath), "HOME": folder, "GIT_DIR": folder} | _GIT_VARIABLES
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=variables, input=stdin, capture_output=True, check=False
        )
    except FileNotFoundError as error:
        message = "git is not installed: apt-get install git"
        raise MissingToolError(message) from error
    if done.returncode != 0:
        message = f"git {arguments[0]} failed: {done.stderr.decode('utf-8', 'replace').strip()[-500:]}"
        raise UserError(message)
    return done.stdout
