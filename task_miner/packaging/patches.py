"""The two patches of a task and the archive of protected files.

The options of `git diff` are spelled out, so that neither a user's configuration nor a changed default alters a byte.
"""

from collections.abc import Iterable
from pathlib import Path

from envfarm.grading.protected_paths import matches
from task_miner.packaging.archive import ArchiveEntry
from task_miner.packaging.workspace import tree_entry
from task_miner.sources.git_command import ObjectReader, read_tree, run_git
from task_miner.unit import Candidate, Change

_DIFF_OPTIONS = (
    "--binary",
    "--full-index",
    "--no-color",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--diff-algorithm=myers",
    "--indent-heuristic",
    "--unified=3",
    "--inter-hunk-context=0",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--ignore-submodules=none",
    "--submodule=short",
)


def make_patch(git_folder: Path, candidate: Candidate, changes: Iterable[Change]) -> bytes:
    """Return the unified diff of some of a candidate's changes; empty for none."""
    paths = sorted(change.path for change in changes)
    if not paths:
        return b""
    specs = [f":(literal,top){path}" for path in paths]
    return run_git(
        git_folder, "diff-tree", "-r", "-p", *_DIFF_OPTIONS, candidate.base_commit, candidate.fix_commit, "--", *specs
    )


def reference_entries(
    git_folder: Path, reader: ObjectReader, candidate: Candidate, protected: tuple[str, ...]
) -> tuple[tuple[ArchiveEntry, ...], tuple[str, ...]]:
    """Return every protected file as it has to be when tests run, and the base's protected files that are no more.

    That is: the base's protected files, with the candidate's test side laid over them.
    """
    wanted = {
        path: entry for path, entry in read_tree(git_folder, candidate.base_commit).items() if matches(path, protected)
    }
    removed = []
    for change in candidate.tests:
        if change.new_blob is None:
            wanted.pop(change.path, None)
            removed.append(change.path)
        else:
            wanted[change.path] = (change.new_mode, change.new_blob)
    entries = (tree_entry(reader, path, mode, oid) for path, (mode, oid) in sorted(wanted.items()))
    return tuple(entry for entry in entries if entry is not None), tuple(sorted(removed))
