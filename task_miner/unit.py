"""What history is made of: changes, units and candidates. PURE.

A unit is the first-parent diff of one commit of the default branch, so that squashed, rebased and merged work look
alike. A candidate is a unit whose source and test sides could make a task.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class PathRole(StrEnum):
    """Which side of a fix a path belongs to."""

    SOURCE = "source"
    TEST = "test"
    """Tests with their fixtures, snapshots and conftest files."""
    TEST_CONFIG = "test_config"
    """Files that steer the test runner (pytest.ini, tox.ini, setup.cfg, pyproject.toml): the grader's side."""
    OTHER = "other"
    """Docs, CI, lock files: on neither side."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One changed path of a unit.

    Attributes:
        path: Path after the change (before it, for a deletion), POSIX, as git gives it.
        status: A, M, D or T (type change). Renames are told as D and A.
        old_blob: Object id before, or None.
        new_blob: Object id after, or None.
        old_mode: Git file mode before, such as 0o100644; 0 where there is none.
        new_mode: Git file mode after.
    """

    path: str
    status: str
    old_blob: str | None
    new_blob: str | None
    old_mode: int
    new_mode: int


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One step of the default branch's first-parent history.

    Attributes:
        commit: Its object id.
        parents: Ids of all parents; the first is the unit's base.
        committed_at: Committer time, seconds since the epoch.
        message: Whole commit message.
        kind: merge, squash (a trailer ``(#N)``), release (a `pypi:` history) or plain.
        changes: First-parent diff.
    """

    commit: str
    parents: tuple[str, ...]
    committed_at: int
    message: str
    kind: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A unit that touches source and tests.

    Attributes:
        candidate_id: ``PROJECT-`` and the first 12 hex digits of the fix commit; also the task's id.
        unit: The unit it comes from.
        source: Changes on the source side: the true fix.
        tests: Changes on the test side, test configuration included: the hidden tests.
    """

    candidate_id: str
    unit: Unit
    source: tuple[Change, ...]
    tests: tuple[Change, ...] = field(default=())

    @property
    def base_commit(self) -> str:
        """The commit that the policy starts from."""
        return self.unit.parents[0]

    @property
    def fix_commit(self) -> str:
        """The commit that holds the true fix."""
        return self.unit.commit
