"""What became of each test between the base and the fix. PURE: runs in, classes and a reason out.

The naive comparison, "failed before, passes after", is wrong in known ways (mining.md, "Validation"); each has a rule
here and a test of its own. A test decides only if all runs of a side agree on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from envfarm.records.task import StageRun, TestClass
from task_miner.languages.contract import ChangedTests
from task_miner.reasons import ReasonCode

REQUIRED_TO_PASS = frozenset({TestClass.F2P, TestClass.C2P, TestClass.T2P, TestClass.N2P, TestClass.S2P})
"""Classes that make up a task's fail-to-pass list."""
_UNSTABLE = frozenset({TestClass.FLAKY, TestClass.UNSTABLE_ID, TestClass.ORDER_DEPENDENT})
_FEW_SKIPS = 5

MISSING = "missing"
"""Outcome of a test that a run does not have."""
CRASHED = "crashed"
"""Outcome of the test during which the process died."""
DUPLICATE = "duplicate"
"""Outcome of an id that several tests of one run share."""
_COLLECTION_ERROR, _TIMED_OUT, _CUT_OFF = "collection_error", "timed_out", "cut_off"
"""What kept a test from having an outcome: its file, the run's time limit, the death of the process."""
_HIDDEN = frozenset({_COLLECTION_ERROR, _TIMED_OUT, _CUT_OFF})
_PASSING = frozenset({"passed", "xpassed"})
"""A test that passes although it is marked to fail had nothing in it that the fix could mend."""
_BY_CHANCE = {MISSING: TestClass.UNSTABLE_ID, "skipped": TestClass.FLAKY}


@dataclass(frozen=True, kw_only=True)
class Classification:
    """The classes of all tests, and whether they make a task."""

    classes: dict[str, TestClass]
    reason: ReasonCode
    detail: str = ""

    def ids_of(self, classes: frozenset[TestClass]) -> tuple[str, ...]:
        """Return the sorted ids of tests of some classes."""
        return tuple(sorted(name for name, found in self.classes.items() if found in classes))

    def counts(self) -> dict[str, int]:
        """Return how many tests each class has."""
        return {str(kind): count for kind in TestClass if (count := len(self.ids_of(frozenset({kind}))))}


def judge_first_after(run: StageRun) -> tuple[ReasonCode, str]:
    """Say whether one run of the fixed side can make a task at all."""
    passed = sum(outcome == "passed" for outcome in run.outcomes.values())
    skipped = sum(outcome == "skipped" for outcome in run.outcomes.values())
    if not run.session_ended:
        if run.timed_out:
            return ReasonCode.RUN_TIMEOUT, "the run of the fixed side took longer than it may"
        return ReasonCode.NOTHING_RAN, "the run of the fixed side did not end its session"
    if not passed and run.collection_errors:
        return ReasonCode.FIX_DOES_NOT_PASS, f"after the fix {run.collection_errors[0]} cannot be collected"
    if not run.outcomes:
        return ReasonCode.NOTHING_RAN, "no test was collected after the fix"
    if skipped > _FEW_SKIPS and skipped > len(run.outcomes) / 2:
        return ReasonCode.MASS_SKIP, f"{skipped} of {len(run.outcomes)} tests were skipped: something is not installed"
    if not passed:
        return ReasonCode.FIX_DOES_NOT_PASS, f"none of {len(run.outcomes)} tests passes after the fix"
    return ReasonCode.OK, ""


def differs(before: StageRun, after: StageRun) -> bool:
    """Say whether any test that passes after the fix did not pass before it."""
    return any(
        outcome == "passed" and before.outcomes.get(name) != "passed" for name, outcome in after.outcomes.items()
    )


def classify(
    old: StageRun | None,
    before: Sequence[StageRun],
    after: Sequence[StageRun],
    changed: Mapping[str, ChangedTests],
) -> Classification:
    """Return the class of every test, and whether they make a task.

    A file that the base cannot collect hides tests that the fix has nothing to do with: those that passed in their old
    file and are the same by their syntax tree are P2P. Only when nothing else is left that the fix mends, they are C2P:
    then what the fix mends is that the file can be collected at all.

    A test that measures time decides nothing: it passes in a few runs here, and fails one day on a busy machine.

    Args:
        old: The base with its old tests; None where none of the files existed.
        before: The base with the new tests; the last one in random order.
        after: The fix with the new tests; the last one in random order.
        changed: What the syntax trees say of each test file, by path.
    """
    reason, detail = judge_first_after(after[0])
    names = sorted({name for run in [*before, *after] for name in run.outcomes})
    masked = frozenset(name for name in names if _passed_unchanged(name, old, changed))
    timed = frozenset(name for name in names if _is_timed(name, changed))
    found = Classification(classes=_classes(names, before, after, masked, timed), reason=reason, detail=detail)
    if reason is not ReasonCode.OK or found.ids_of(REQUIRED_TO_PASS):
        return found
    found = replace(found, classes=_classes(names, before, after, frozenset(), timed))
    if found.ids_of(REQUIRED_TO_PASS):
        return found
    unstable = found.ids_of(_UNSTABLE)
    if unstable:
        told = f"what changes is unstable: {', '.join(unstable[:3])}"
        return replace(found, reason=ReasonCode.ONLY_UNSTABLE, detail=told)
    told = "every test that passes after the fix passes before it"
    broken = len(found.ids_of(frozenset({TestClass.BROKEN})))
    told += f"; {broken} pass on neither side or are broken by it" if broken else ""
    return replace(found, reason=ReasonCode.NO_FAIL_TO_PASS, detail=told)


def _classes(
    names: Sequence[str],
    before: Sequence[StageRun],
    after: Sequence[StageRun],
    masked: frozenset[str],
    timed: frozenset[str],
) -> dict[str, TestClass]:
    classes = {
        name: _class_of(
            [_seen(name, run) for run in before], [run.outcomes.get(name, MISSING) for run in after], name in masked
        )
        for name in names
    }
    unsteady = {name for name in timed if classes[name] in {*REQUIRED_TO_PASS, TestClass.P2P}}
    return classes | dict.fromkeys(unsteady, TestClass.FLAKY)


def _class_of(earlier: Sequence[str], later: Sequence[str], masked: bool) -> TestClass:  # noqa: FBT001 -- one of three facts
    """Return the class of one test by what was seen of it in each run of the two sides."""
    if DUPLICATE in earlier or DUPLICATE in later:
        return TestClass.UNSTABLE_ID
    if MISSING in later:
        gone = set(later) == {MISSING} and MISSING not in earlier
        return TestClass.BROKEN if gone else TestClass.UNSTABLE_ID
    if set(later) != {"passed"}:
        return _unsteady(later) if "passed" in later else TestClass.BROKEN
    if _PASSING.intersection(earlier):
        return TestClass.P2P if _PASSING.issuperset(earlier) else _unsteady(earlier)
    if masked and _HIDDEN.intersection(earlier):
        return TestClass.P2P
    return _mended(set(earlier))


def _mended(earlier: set[str]) -> TestClass:
    """Return the class of a test that never passed before the fix and always does after it."""
    if _COLLECTION_ERROR in earlier or _CUT_OFF in earlier:
        return TestClass.C2P
    if "timeout" in earlier or _TIMED_OUT in earlier:
        return TestClass.T2P
    for outcome, kind in ((MISSING, TestClass.N2P), ("skipped", TestClass.S2P)):
        if outcome in earlier:
            return kind if earlier == {outcome} else _BY_CHANCE[outcome]
    return TestClass.F2P


def _unsteady(outcomes: Sequence[str]) -> TestClass:
    """Tell what only the shuffled last run shows from what differs anyway."""
    return TestClass.ORDER_DEPENDENT if len(set(outcomes[:-1])) == 1 else TestClass.FLAKY


def _seen(name: str, run: StageRun) -> str:
    """Return a test's outcome on the base, or what kept it from having one."""
    found = run.outcomes.get(name, MISSING)
    if found != MISSING:
        return found
    if any(_holds(path, name) for path in run.collection_errors):
        return _COLLECTION_ERROR
    if run.session_ended:
        return MISSING
    return _TIMED_OUT if run.timed_out else _CUT_OFF


def _holds(path: str, name: str) -> bool:
    """Say whether what could not be collected (a file, a class, a folder, the whole session) holds the test."""
    return path in {"", "."} or name == path or name.startswith((f"{path}::", f"{path}/"))


def _passed_unchanged(name: str, old: StageRun | None, changed: Mapping[str, ChangedTests]) -> bool:
    """Say whether this is the same test that passed on the base in its old file.

    A name that the trees do not know (inherited from elsewhere, made at run time) counts as the same.
    """
    if old is None or old.outcomes.get(name) not in _PASSING:
        return False
    path, _, rest = name.partition("::")
    tree = changed.get(path)
    return tree is None or rest.split("[", maxsplit=1)[0] not in tree.changed | tree.added


def _is_timed(name: str, changed: Mapping[str, ChangedTests]) -> bool:
    path, _, rest = name.partition("::")
    return path in changed and rest.split("[", maxsplit=1)[0] in changed[path].timed
