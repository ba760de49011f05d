"""Leaves out candidates whose change no test can see, before anything is installed for them. PURE but for `read`."""

from collections.abc import Callable
from pathlib import PurePosixPath

from task_miner.languages.contract import CodeRules
from task_miner.reasons import ReasonCode
from task_miner.unit import Candidate, Change

_REGULAR = frozenset({0, 0o100644, 0o100664, 0o100755})
"""Modes of plain files, the one that git wrote before 2005 included; a symbolic link or a submodule has another."""


def screen(candidate: Candidate, read: Callable[[str], bytes | None], code: CodeRules) -> ReasonCode:
    """Say whether the change can alter what a test sees.

    Args:
        candidate: The candidate.
        read: Returns an object's content by id; None where the repository lacks it.
        code: The language's.
    """
    if any(not {change.old_mode, change.new_mode} <= _REGULAR for change in (*candidate.source, *candidate.tests)):
        return ReasonCode.UNSUPPORTED_CHANGE
    contents = {change.path: _contents(change, read) for change in (*candidate.source, *candidate.tests)}
    if None in contents.values():
        return ReasonCode.OBJECT_MISSING
    sides = {path: found for path, found in contents.items() if found is not None}
    if all(code.same_behaviour(PurePosixPath(change.path), *sides[change.path]) for change in candidate.source):
        return ReasonCode.SOURCE_SAME_BEHAVIOUR
    for change in candidate.tests:
        tree = code.changed_tests(PurePosixPath(change.path), *sides[change.path])
        if tree.added or tree.changed or tree.shared_changed:
            return ReasonCode.OK
    return ReasonCode.NO_NEW_TEST_BEHAVIOUR


def _contents(change: Change, read: Callable[[str], bytes | None]) -> tuple[bytes | None, bytes | None] | None:
    found = []
    for blob in (change.old_blob, change.new_blob):
        content = read(blob) if blob is not None else None
        if blob is not None and content is None:
            return None
        found.append(content)
    return found[0], found[1]
