"""Decides whether a unit is a candidate, and which of its changes are on which side. PURE."""

from pathlib import PurePosixPath

from task_miner.languages.contract import PathRules
from task_miner.reasons import ReasonCode
from task_miner.unit import Candidate, Change, PathRole, Unit

MOST_CHANGES = 150
"""A unit with more changes on its two sides is a reorganisation, not a fix. A guess."""

_GITLINK = 0o160000


def candidate_of(unit: Unit, rules: PathRules, project: str) -> Candidate | ReasonCode:
    """Return the candidate that the unit is, or why it is none."""
    if not unit.parents:
        return ReasonCode.ROOT_COMMIT
    sides: dict[PathRole, list[Change]] = {role: [] for role in PathRole}
    for change in unit.changes:
        sides[rules.role_of(PurePosixPath(change.path))].append(change)
    source, tests = sides[PathRole.SOURCE], sides[PathRole.TEST]
    if not source:
        return ReasonCode.NO_SOURCE_CHANGE
    if not tests or all(change.new_blob is None for change in tests):
        return ReasonCode.NO_TEST_CHANGE
    both = [*source, *tests]
    if any(_GITLINK in (change.old_mode, change.new_mode) for change in both):
        return ReasonCode.UNSUPPORTED_CHANGE
    if len(both) > MOST_CHANGES:
        return ReasonCode.TOO_LARGE
    return Candidate(
        candidate_id=f"{project}-{unit.commit[:12]}",
        unit=unit,
        source=tuple(source),
        tests=tuple(tests + sides[PathRole.TEST_CONFIG]),
    )
