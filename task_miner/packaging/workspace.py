"""The workspace of a task: the base's tree, files that building wrote, and a repository of ancestors only.

The repository is written object by object (`git_pack`), so nothing but what is listed here can be in it: no remote, no
tag, no reflog, no commit that the base does not descend from. History reaches back a hundred first-parent steps, fewer
where they would not fit; beyond it the repository is shallow, as after `git clone --depth`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envfarm.formats.git_pack import GitObject, build_index, build_pack
from task_miner.packaging.archive import ArchiveEntry
from task_miner.sources.git_command import ObjectReader, read_tree, run_git

HISTORY_STEPS = (100, 30, 10, 3, 0)
"""First-parent steps of history, most first; the first that fits is taken."""
HISTORY_BYTES = 24 * 1024 * 1024
"""Raw bytes of all objects that history may have: xz makes about 1 MB of them."""

SYMLINK_MODE = 0o120000
GITLINK_MODE = 0o160000
EXECUTABLE_MODE = 0o100755

_CONFIG = b"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """What /workspace holds before a policy starts.

    Attributes:
        entries: Files of the tree and of .git.
        paths: Paths of the tree, without .git and without generated files.
        committed_at: The base's committer time: the time stamp of every file.
        history_commits: Number of commits in the repository.
    """

    entries: tuple[ArchiveEntry, ...] = field(repr=False)
    paths: frozenset[str] = field(repr=False)
    committed_at: int
    history_commits: int


def build_workspace(git_folder: Path, reader: ObjectReader, base_commit: str) -> Workspace:
    """Read the workspace of a base commit out of a repository.

    Raises:
        RepositoryError: An object is missing or damaged.
    """
    tree = read_tree(git_folder, base_commit)
    entries = [
        entry for path, (mode, oid) in tree.items() if (entry := tree_entry(reader, path, mode, oid)) is not None
    ]
    commits, shallow, objects = _choose_history(git_folder, reader, base_commit)
    name, pack, index = build_pack(objects)
    staged = {
        path.encode("utf-8", "surrogateescape"): (mode, oid)
        for path, (mode, oid) in tree.items()
        if mode != GITLINK_MODE
    }
    git_files = {
        ".git/HEAD": b"ref: refs/heads/main\n",
        ".git/config": _CONFIG,
        ".git/refs/heads/main": base_commit.encode() + b"\n",
        ".git/index": build_index(staged),
        f".git/objects/pack/pack-{name}.pack": pack,
        f".git/objects/pack/pack-{name}.idx": index,
    }
    if shallow:
        git_files[".git/shallow"] = b"".join(commit.encode() + b"\n" for commit in sorted(shallow))
    entries += [ArchiveEntry(path, content) for path, content in git_files.items()]
    time = int(run_git(git_folder, "show", "-s", "--format=%ct", base_commit).split()[-1])
    return Workspace(entries=tuple(entries), paths=frozenset(tree), committed_at=time, history_commits=len(commits))


def tree_entry(reader: ObjectReader, path: str, mode: int, oid: str) -> ArchiveEntry | None:
    """Return a tree's file as an archive entry; None for a submodule, which a workspace leaves out."""
    if mode == GITLINK_MODE:
        return None
    content = reader.require(oid)
    if mode == SYMLINK_MODE:
        return ArchiveEntry(path, b"", link_target=content.decode("utf-8", "surrogateescape"))
    return ArchiveEntry(path, content, executable=mode == EXECUTABLE_MODE)


def with_generated(entries: tuple[ArchiveEntry, ...], generated: Mapping[str, bytes]) -> tuple[ArchiveEntry, ...]:
    """Return the entries with the files that building wrote; a generated file takes the place of a tracked one."""
    kept = tuple(entry for entry in entries if entry.path not in generated)
    return kept + tuple(ArchiveEntry(path, content) for path, content in sorted(generated.items()))


def _choose_history(
    git_folder: Path, reader: ObjectReader, base_commit: str
) -> tuple[tuple[str, ...], frozenset[str], list[GitObject]]:
    line = (
        run_git(git_folder, "rev-list", "--first-parent", f"--max-count={HISTORY_STEPS[0] + 1}", base_commit)
        .decode()
        .split()
    )
    for steps in HISTORY_STEPS:
        if steps >= len(line) and steps != HISTORY_STEPS[0]:
            continue
        commits, shallow = _commits_since(git_folder, base_commit, line[min(steps, len(line) - 1)])
        oids = _objects_of(git_folder, commits)
        if steps and sum(reader.sizes(oids)) > HISTORY_BYTES:
            continue
        objects = [GitObject(oid, kind, content) for oid, kind, content in reader.read_all(oids)]
        return commits, shallow, objects
    message = "the last number of history steps is 0 and always taken"
    raise AssertionError(message)


def _commits_since(git_folder: Path, base_commit: str, oldest: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the commits from base back to `oldest`, newest first, and those of them that are cut off from parents."""
    lines = run_git(git_folder, "rev-list", "--topo-order", "--parents", base_commit, f"^{oldest}").decode()
    lines += run_git(git_folder, "rev-list", "--parents", "--max-count=1", oldest).decode()
    parents = {words[0]: words[1:] for words in (line.split() for line in lines.splitlines())}
    shallow = {commit for commit, of in parents.items() if not all(parent in parents for parent in of)}
    reached: dict[str, None] = {}
    waiting = [base_commit]
    while waiting:
        commit = waiting.pop()
        if commit not in reached:
            reached[commit] = None
            waiting += [] if commit in shallow else parents[commit]
    ordered = tuple(commit for commit in parents if commit in reached)
    return ordered, frozenset(shallow & set(reached))


def _objects_of(git_folder: Path, commits: tuple[str, ...]) -> list[str]:
    listed = run_git(
        git_folder,
        "rev-list",
        "--objects",
        "--no-object-names",
        "--no-walk=unsorted",
        "--stdin",
        stdin="\n".join(commits).encode() + b"\n",
    )
    return list(dict.fromkeys(listed.decode().split()))
