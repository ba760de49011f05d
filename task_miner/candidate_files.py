"""Reads all that the stages need of a candidate's two commits, in one go and from one process."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from task_miner.candidate_work import CandidateFiles
from task_miner.languages.contract import Language
from task_miner.packaging.archive import write_archive
from task_miner.packaging.patches import make_patch, reference_entries
from task_miner.packaging.workspace import GITLINK_MODE, SYMLINK_MODE, build_workspace
from task_miner.sources.git_command import ObjectReader, read_tree
from task_miner.unit import Candidate, Change

_LARGEST_PROJECT_FILE = 1 << 20


def read_candidate(git_folder: Path, candidate: Candidate, language: Language) -> CandidateFiles:
    """Return what the stages need of a candidate.

    Raises:
        RepositoryError: An object is missing or damaged.
    """
    with ObjectReader(git_folder) as reader:
        workspace = build_workspace(git_folder, reader, candidate.base_commit)
        tree = read_tree(git_folder, candidate.fix_commit)
        protected = language.paths.protected_patterns(workspace.paths, candidate)
        reference, removed = reference_entries(git_folder, reader, candidate, protected)
        changes = (*candidate.source, *candidate.tests)
        regular = {path: oid for path, (mode, oid) in tree.items() if mode not in {GITLINK_MODE, SYMLINK_MODE}}
        tests = {change.path for change in candidate.tests if change.new_blob} & regular.keys()
        tests |= {path for path in regular if PurePosixPath(path).name == "conftest.py"}
        described = [path for path in regular if language.describes_project(PurePosixPath(path))]
        return CandidateFiles(
            workspace=workspace,
            fix_paths=frozenset(tree),
            project_files={path: _small(reader.require(regular[path])) for path in described},
            test_files={path: reader.require(regular[path]) for path in sorted(tests)},
            before=_contents(reader, changes, new=False),
            after=_contents(reader, changes, new=True),
            fix_patch=make_patch(git_folder, candidate, candidate.source),
            test_patch=make_patch(git_folder, candidate, candidate.tests),
            reference=write_archive(reference, modified_at=workspace.committed_at),
            removed_paths=removed,
            protected=protected,
        )


def _contents(reader: ObjectReader, changes: Iterable[Change], *, new: bool) -> dict[str, bytes]:
    found = {}
    for change in changes:
        blob = change.new_blob if new else change.old_blob
        if blob is not None:
            found[change.path] = reader.require(blob)
    return found


def _small(content: bytes) -> bytes:
    return content if len(content) <= _LARGEST_PROJECT_FILE else b""
