"""What became of each test between the base and the fix. PURE: runs in, classes and a reason out.

The naive comparison, "failed before, passes after", is wrong in known ways (mining.md, "Validation"); each has a rule
here and a test of its own. A test decides only if all runs of a side agree on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envfarm.records.task import StageRun, TestClass
from task_miner.languages.contract import ChangedTests
from task_miner.reasons import ReasonCode

REQUIRED_TO_PASS = frozenset({TestClass.F2P, TestClass.C2P, TestClass.T2P, TestClass.N2P, TestClass.S2P})
"""Classes that make up a task's fail-to-pass list."""
_UNSTABLE = frozenset({TestClass.FLAKY, TestClass.UNSTABLE_ID, TestClass.ORDER_DEPENDENT})
_FEW_SKIPS = 5

_COLLECTION_ERROR = "collection_error"
_CUT = "cut"
_MISSING = "missing"


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

    Args:
        old: The base with its old tests; None where none of the files existed.
        before: The base with the new tests; the last one in random order.
        after: The fix with the new tests; the last one in random order.
        changed: What the syntax trees say of each test file, by path.
    """
    reason, detail = judge_first_after(after[0])
    names = {name for run in [*before, *after] for name in run.outcomes}
    classes = {name: _class_of(name, old, before, after, changed) for name in sorted(names)}
    found = Classification(classes=classes, reason=ReasonCode.OK)
    if reason is ReasonCode.OK and not found.ids_of(REQUIRED_TO_PASS):
        unstable = found.ids_of(_UNSTABLE)
        if unstable:
            reason, detail = ReasonCode.ONLY_UNSTABLE, f"what changes is unstable: {', '.join(unstable[:3])}"
        else:
            reason, detail = ReasonCode.NO_FAIL_TO_PASS, "every test that passes after the fix passes before it"
    return Classification(classes=classes, reason=reason, detail=detail)


def _class_of(
    name: str,
    old: StageRun | None,
    before: Sequence[StageRun],
    after: Sequence[StageRun],
    changed: Mapping[str, ChangedTests],
) -> TestClass:
    outcomes = [run.outcomes.get(name, _MISSING) for run in after]
    if _MISSING in outcomes:
        return TestClass.UNSTABLE_ID if any(outcome != _MISSING for outcome in outcomes) else TestClass.BROKEN
    if set(outcomes) != {"passed"}:
        return _unsteady(outcomes) if "passed" in outcomes else TestClass.BROKEN
    earlier = [_earlier(name, run) for run in before]
    if "passed" in earlier:
        return TestClass.P2P if set(earlier) == {"passed"} else _unsteady(earlier)
    if _COLLECTION_ERROR in earlier or _CUT in earlier:
        if _passed_unchanged(name, old, changed):
            return TestClass.P2P
        return TestClass.C2P if _COLLECTION_ERROR in earlier else TestClass.T2P
    if "timeout" in earlier:
        return TestClass.T2P
    if _MISSING in earlier:
        return TestClass.N2P if set(earlier) == {_MISSING} else TestClass.UNSTABLE_ID
    if "skipped" in earlier:
        return TestClass.S2P if set(earlier) == {"skipped"} else TestClass.FLAKY
    return TestClass.F2P if "xpassed" not in earlier else TestClass.FLAKY


def _unsteady(outcomes: Sequence[str]) -> TestClass:
    """Tell what only the shuffled last run shows from what differs anyway."""
    return TestClass.ORDER_DEPENDENT if len(set(outcomes[:-1])) == 1 else TestClass.FLAKY


def _earlier(name: str, run: StageRun) -> str:
    found = run.outcomes.get(name)
    if found is not None and found != _MISSING:
        return found
    if name.split("::", maxsplit=1)[0] in run.collection_errors:
        return _COLLECTION_ERROR
    return _MISSING if run.session_ended else _CUT


def _passed_unchanged(name: str, old: StageRun | None, changed: Mapping[str, ChangedTests]) -> bool:
    """Say whether a masked test is the same test that passed on the base: then the fix did not make it pass."""
    if old is None or old.outcomes.get(name) != "passed":
        return False
    path, _, rest = name.partition("::")
    tree = changed.get(path)
    return tree is None or rest.split("[", 1)[0] in tree.same
