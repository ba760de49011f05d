"""open_source(): a clone, a URL, a bundle or a `pypi:` range becomes a repository that can be read.

A local clone is read where it lies, and never written to. Everything else becomes a bare repository in the cache, which
the next run brings up to date.
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from envfarm.errors import RepositoryError
from task_miner.sources.git_command import run_git

_URL = re.compile(r"[a-z][a-z0-9+.-]*://|[\w.-]+@[\w.-]+:")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A repository that can be mined.

    Attributes:
        git_folder: The repository, for ``--git-dir``.
        key: Stable name of it on this machine, for caches and the ledger.
        kind: local, url, bundle or pypi.
        head: Commit id of the default branch.
        name: Last part of what it was named by: a fallback where a project does not name itself.
    """

    git_folder: Path
    key: str
    kind: str
    head: str
    name: str


def open_source(repo: str, *, cache_folder: Path, report: Callable[[str], None]) -> Source:
    """Return the repository that `repo` names.

    Args:
        repo: A local clone, a git URL, a bundle, or ``pypi:NAME[A..B]``.
        cache_folder: envfarm's cache on this machine.
        report: Is told in one line what takes long.

    Raises:
        RepositoryError: It cannot be read, is empty, or is a shallow clone.
        SettingsError: A `pypi:` range is malformed.
    """
    if repo.startswith("pypi:"):
        from task_miner.sources.pypi import open_releases

        folder, name = open_releases(repo, cache_folder=cache_folder, report=report)
        return _checked(folder, repo, "pypi", name)
    if _URL.match(repo) and not Path(repo).exists():
        return _checked(_mirror(repo, cache_folder, report), repo, "url", _last_part(repo))
    path = Path(repo).expanduser()
    if path.is_file():
        return _checked(_mirror(str(path.absolute()), cache_folder, report), repo, "bundle", _last_part(repo))
    if not path.is_dir():
        message = f"{repo} is neither a folder, a bundle, a git URL nor pypi:NAME: check --repo"
        raise RepositoryError(message)
    return _checked(_local_git_folder(path.absolute()), str(path.absolute()), "local", _last_part(str(path.absolute())))


def _local_git_folder(path: Path) -> Path:
    bare = (path / "HEAD").is_file() and (path / "objects").is_dir()
    if bare:
        return path
    if not (path / ".git").exists():
        message = f"{path} is no git repository: name a clone, a git URL, a bundle or pypi:NAME as --repo"
        raise RepositoryError(message)
    if (path / ".git").is_dir():
        return path / ".git"
    told = (path / ".git").read_text(encoding="utf-8", errors="replace").removeprefix("gitdir:").strip()
    folder = (path / told).resolve()
    common = folder / "commondir"
    return (folder / common.read_text().strip()).resolve() if common.is_file() else folder


def _mirror(url: str, cache_folder: Path, report: Callable[[str], None]) -> Path:
    """Return a bare mirror in the cache, brought up to date; it appears whole or not at all."""
    folder = cache_folder / "clones" / f"{_last_part(url)}-{hashlib.sha256(url.encode()).hexdigest()[:12]}.git"
    if folder.is_dir():
        report(f"bringing the clone of {_without_secret(url)} up to date")
        run_git(folder, "fetch", "--quiet", "--prune", "origin", "+refs/*:refs/*")
        return folder
    report(f"cloning {_without_secret(url)}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        run_git(None, "clone", "--quiet", "--mirror", "--", url, str(partial / "clone"))
        (partial / "clone").rename(folder)
    except RepositoryError as error:
        message = (
            f"{_without_secret(url)} cannot be cloned ({str(error).replace(url, _without_secret(url))}): check --repo"
        )
        raise RepositoryError(message) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _checked(folder: Path, told: str, kind: str, name: str) -> Source:
    if (folder / "shallow").is_file():
        message = f"{told} is a shallow clone, its history is cut off: run git fetch --unshallow in it first"
        raise RepositoryError(message)
    try:
        head = run_git(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").decode().strip()
    except RepositoryError as error:
        head = _newest_branch(folder, told, error)
    key = f"{kind}-{name}-{hashlib.sha256(told.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"
    return Source(git_folder=folder, key=key, kind=kind, head=head, name=name)


def _newest_branch(folder: Path, told: str, error: RepositoryError) -> str:
    """Return the newest branch of a repository whose HEAD names none (a bundle of one branch, say)."""
    arguments = ("for-each-ref", "--sort=-committerdate", "--format=%(objectname)", "--count=1", "refs/heads/")
    try:
        found = run_git(folder, *arguments).decode().split()
    except RepositoryError as problem:
        message = f"{told} cannot be read as a git repository ({problem}): run git fsck on it"
        raise RepositoryError(message) from problem
    if not found:
        message = f"{told} has no commits: there is nothing to mine"
        raise RepositoryError(message) from error
    return found[0]


def _last_part(text: str) -> str:
    name = re.split(r"[/:]", text.rstrip("/"))[-1].removesuffix(".git").removesuffix(".bundle")
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "project"


def _without_secret(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)
