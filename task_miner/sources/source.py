"""open_source(): a clone, a URL, a bundle or a `pypi:` range becomes a repository that can be read.

A local clone is read where it lies, and never written to. Everything else becomes a bare repository in the cache, which
the next run brings up to date.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envfarm.errors import RepositoryError
from envfarm.images import unfinished_folder
from task_miner.sources.git_command import Downloads, GitEndedError, run_git

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
        pull_heads: Numbers of pull and merge requests by the commit at their head, where the clone has such refs.
    """

    git_folder: Path
    key: str
    kind: str
    head: str
    name: str
    pull_heads: Mapping[str, int] = field(default_factory=dict, repr=False)


def open_source(
    repo: str, *, cache_folder: Path, report: Callable[[str], None], downloads: Downloads | None = None
) -> Source:
    """Return the repository that `repo` names.

    Args:
        repo: A local clone, a git URL, a bundle, or ``pypi:NAME[A..B]``.
        cache_folder: envfarm's cache on this machine.
        report: Is told in one line what takes long; may raise to end it there.
        downloads: Runs the git commands that talk to other machines; the caller may end them.

    Raises:
        RepositoryError: It cannot be read, is empty, or is not whole.
        GitEndedError: `downloads` were ended.
        SettingsError: A `pypi:` range is malformed.
    """
    downloads = downloads or Downloads()
    if repo.startswith("pypi:"):
        from task_miner.sources.pypi import open_releases

        folder, name = open_releases(repo, cache_folder=cache_folder, report=report)
        return _checked(folder, repo, "pypi", name)
    if _URL.match(repo) and not Path(repo).exists():
        return _checked(_mirror(repo, cache_folder, report, downloads), repo, "url", _last_part(repo))
    path = Path(repo).expanduser()
    if path.is_file():
        return _checked(
            _mirror(str(path.absolute()), cache_folder, report, downloads), repo, "bundle", _last_part(repo)
        )
    if not repo or not path.is_dir():
        message = f"{repo!r} is neither a folder, a bundle, a git URL nor pypi:NAME: check --repo"
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
    if not folder.is_dir():
        message = f"{path} is a worktree or submodule whose repository {folder} is gone: name another clone as --repo"
        raise RepositoryError(message)
    return folder


def _mirror(url: str, cache_folder: Path, report: Callable[[str], None], downloads: Downloads) -> Path:
    """Return a bare mirror in the cache, brought up to date; it appears whole or not at all."""
    folder = cache_folder / "clones" / f"{_last_part(url)}-{hashlib.sha256(url.encode()).hexdigest()[:12]}.git"
    if folder.is_dir():
        report(f"bringing the clone of {_without_secret(url)} up to date")
        try:
            downloads.run(folder, "fetch", "--quiet", "--prune", "origin", "+refs/*:refs/*")
        except GitEndedError:
            raise
        except RepositoryError as error:
            told = str(error).replace(url, _without_secret(url))
            message = f"{_without_secret(url)} cannot be brought up to date ({told}): try again, or mine {folder}"
            raise RepositoryError(message) from error
        return folder
    report(f"cloning {_without_secret(url)}")
    try:
        with unfinished_folder(folder.parent) as partial:
            downloads.run(None, "clone", "--quiet", "--mirror", "--", url, str(partial / "clone"))
            (partial / "clone").rename(folder)
    except GitEndedError:
        raise
    except RepositoryError as error:
        message = (
            f"{_without_secret(url)} cannot be cloned ({str(error).replace(url, _without_secret(url))}): check --repo"
        )
        raise RepositoryError(message) from error
    return folder


def _checked(folder: Path, told: str, kind: str, name: str) -> Source:
    _require_whole(folder, told)
    try:
        head = run_git(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").decode().strip()
    except RepositoryError as error:
        head = _newest_branch(folder, told, error)
    key = f"{kind}-{name}-{hashlib.sha256(told.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"
    return Source(git_folder=folder, key=key, kind=kind, head=head, name=name, pull_heads=_pull_heads(folder))


def _require_whole(folder: Path, told: str) -> None:
    try:
        shallow = run_git(folder, "rev-parse", "--is-shallow-repository").strip() == b"true"
        lines = run_git(folder, "config", "--list", "-z").decode("utf-8", "replace").lower().split("\0")
    except RepositoryError as error:
        message = f"{told} cannot be read as a git repository ({error}): run git fsck on it"
        raise RepositoryError(message) from error
    if shallow:
        message = f"{told} is a shallow clone, its history is cut off: run git fetch --unshallow in it first"
        raise RepositoryError(message)
    settings = dict(line.partition("\n")[::2] for line in lines)
    if any(re.fullmatch(r"extensions\.partialclone|remote\..*\.promisor", name) for name in settings):
        message = f"{told} is a partial clone, it lacks objects: clone it again without --filter"
        raise RepositoryError(message)
    if settings.get("extensions.objectformat", "sha1") != "sha1":
        message = f"{told} names its objects by SHA-256, which is not supported: convert it to SHA-1 first"
        raise RepositoryError(message)


def _pull_heads(folder: Path) -> dict[str, int]:
    """Return the numbers of pull and merge requests by the commit at their head; of several, the youngest."""
    patterns = ("refs/pull/*/head", "refs/merge-requests/*/head")
    lines = run_git(folder, "for-each-ref", "--format=%(objectname) %(refname)", *patterns).decode().splitlines()
    found = ((line.split(" ")[0], line.split("/")[-2]) for line in lines)
    return dict(
        sorted(((commit, int(number)) for commit, number in found if number.isdigit()), key=lambda pair: pair[1])
    )


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
