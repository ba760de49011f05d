"""What git and the file system see of a workspace: the base's tree, every object, every file of .git.

git itself reads the repository, as a policy would; nothing of the repository's own settings is trusted by that (see
`sources.git_command`), and all of its files are on a list of what may be there.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from envfarm.errors import RepositoryError
from task_miner.quality.fix_traces import CLEAN, Trace
from task_miner.sources.git_command import run_git

_GIT_FILES = re.compile(r"(HEAD|config|index|shallow|refs/heads/main|objects/pack/pack-[0-9a-f]{40,64}\.(pack|idx))\Z")
_SETTINGS = re.compile(r"\[core\]\n(\t(repositoryformatversion|filemode|bare|logallrefupdates) = \w+\n)*\Z")
_SYMLINK_MODE, _GITLINK_MODE = 0o120000, 0o160000


@dataclass(frozen=True, kw_only=True)
class BaseTree:
    """A workspace beside what its base commit says of it.

    Attributes:
        folder: The workspace.
        commit: The base commit.
        blobs: Mode and object id of each file of the base's tree, by path; empty where there is no repository.
        submodules: Paths of the tree that are other repositories; a workspace leaves them out.
        problem: Why the repository cannot be read; empty where it can.
    """

    folder: Path
    commit: str
    blobs: Mapping[str, tuple[int, str]] = field(default_factory=dict, repr=False)
    submodules: frozenset[str] = frozenset()
    problem: str = ""

    @property
    def git_folder(self) -> Path:
        """Where the repository lies."""
        return self.folder / ".git"

    @cached_property
    def untracked(self) -> tuple[str, ...]:
        """Files and links that the base's tree does not have, .git aside; sorted."""
        found = []
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if name not in self.blobs and not name.startswith(".git/") and (path.is_symlink() or path.is_file()):
                found.append(name)
        return tuple(sorted(name for name in found if not (self.folder / name).is_symlink()))

    def problem_of(self, path: str) -> str:
        """Return how a tracked file differs from the base's; empty where it does not."""
        mode, oid = self.blobs[path]
        file = self.folder / path
        if mode == _SYMLINK_MODE:
            content = str(file.readlink()).encode("utf-8", "surrogateescape") if file.is_symlink() else None
        else:
            content = file.read_bytes() if file.is_file() and not file.is_symlink() else None
        if content is None:
            return f"{path} is missing"
        digest = hashlib.sha256 if len(oid) > 40 else hashlib.sha1  # noqa: PLR2004 -- SHA-1 has 40 hex digits
        found = digest(b"blob %d\0" % len(content) + content).hexdigest()
        return "" if found == oid else f"{path} is not as the base has it"

    def holds(self, trace: Trace) -> bool:
        """Say whether a tracked file holds the traced line as well: then it does not come from the fix."""
        if not trace.line:
            return False
        files = (self.folder / path for path, (mode, _) in self.blobs.items() if mode != _SYMLINK_MODE)
        return any(trace.line in file.read_bytes() for file in files if file.is_file())


def read_base_tree(folder: Path, commit: str) -> BaseTree:
    """Return the workspace's base as its repository tells it; one that cannot be read is a problem, not an error."""
    git_folder = folder / ".git"
    if not git_folder.exists():
        return BaseTree(folder=folder, commit=commit)
    try:
        listed = run_git(git_folder, "ls-tree", "-r", "-z", "--full-tree", commit)
    except RepositoryError as error:
        return BaseTree(folder=folder, commit=commit, problem=f"the repository cannot be read: {error}")
    blobs: dict[str, tuple[int, str]] = {}
    for line in listed.split(b"\0")[:-1]:
        facts, _, path = line.partition(b"\t")
        mode, _, oid = facts.decode().split(" ")
        blobs[path.decode("utf-8", "surrogateescape")] = (int(mode, 8), oid)
    submodules = frozenset(path for path, (mode, _) in blobs.items() if mode == _GITLINK_MODE)
    files = {path: found for path, found in blobs.items() if path not in submodules}
    return BaseTree(folder=folder, commit=commit, blobs=files, submodules=submodules)


def find_in_git_objects(base: BaseTree, fix_commits: frozenset[str], fix_objects: frozenset[str]) -> str:
    """Return the first object that the base commit does not reach, the fix's own first, or ``clean``."""
    if base.problem or not base.git_folder.exists():
        return base.problem or CLEAN
    try:
        listed = run_git(
            base.git_folder, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)", "--unordered"
        )
        reachable = run_git(base.git_folder, "rev-list", "--objects", "--no-object-names", base.commit)
        staged = run_git(base.git_folder, "ls-files", "--stage", "-z")
    except RepositoryError as error:
        return f"the repository cannot be read: {error}"
    present = set(listed.decode().split())
    commits = sorted(present & fix_commits)
    if commits:
        return f"the fix's own commit {commits[0]}"
    stray = present - set(reachable.decode().split())
    leaked = sorted(stray & fix_objects) or sorted(stray)
    if leaked:
        return f"the object {leaked[0]}, which the base does not reach"
    return _find_in_index(base, staged)


def _find_in_index(base: BaseTree, staged: bytes) -> str:
    for line in staged.split(b"\0")[:-1]:
        facts, _, name = line.partition(b"\t")
        path = name.decode("utf-8", "surrogateescape")
        oid = facts.decode().split(" ")[1]
        if base.blobs.get(path, (0, ""))[1] != oid and path not in base.submodules:
            return f"the index holds another {path} than the base"
    return CLEAN


def find_in_git_files(base: BaseTree) -> str:
    """Return the first file of .git that could tell more than the base, or ``clean``."""
    folder = base.git_folder
    if not folder.exists():
        return CLEAN
    if not folder.is_dir() or folder.is_symlink():
        return ".git leads elsewhere"
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (path.is_symlink() or not path.is_dir()) and not _GIT_FILES.match(name):
            return f".git/{name}"
    if not _SETTINGS.match(_text(folder / "config")):
        return ".git/config holds more than a repository needs"
    if _text(folder / "HEAD") != "ref: refs/heads/main\n":
        return ".git/HEAD is not on main"
    if _text(folder / "refs" / "heads" / "main").strip() != base.commit:
        return ".git/refs/heads/main is not the base"
    return CLEAN


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""
