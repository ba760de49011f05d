"""Judges the small runs: every real test passed, every altered one failed. PURE.

It is asked only once the whole run passed, so every deciding test has passed once as it really is. An altered one that
passes as well, or a real one that fails after all, is then no honest mistake: the outcomes contradict each other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from envfarm.records.test_report import TestOutcome, TestReport
from envfarm.records.trust import ProtectedTest, Twin
from envfarm_verifiers.matching import match_ids
from envfarm_verifiers.mixed_plan import MixedRun

_FAILING = frozenset({TestOutcome.FAILED, TestOutcome.ERROR, TestOutcome.TIMEOUT})


@dataclass(frozen=True, kw_only=True)
class MixedFindings:
    """What the small runs showed.

    Attributes:
        contradictions: In words: which test, and how.
        missing: Tests without an outcome, by number of the run.
        judged: Outcomes that were compared.
        altered: Those of them that had to be failures.
    """

    contradictions: tuple[str, ...] = ()
    missing: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    judged: int = 0
    altered: int = 0


def judge_mixed_runs(
    tests: Sequence[ProtectedTest], runs: Sequence[MixedRun], reports: Sequence[TestReport]
) -> MixedFindings:
    """Compare every outcome of every small run with what it has to be."""
    contradictions: list[str] = []
    missing: dict[int, tuple[str, ...]] = {}
    judged = altered = 0
    for number, (run, report) in enumerate(zip(runs, reports, strict=True)):
        outcomes = _own_outcomes(tests, report)
        gone = []
        for name, twin in _judged_names(tests, run):
            outcome = outcomes.get(name, TestOutcome.MISSING)
            if outcome is TestOutcome.MISSING:
                gone.append(name)
                continue
            judged += 1
            altered += twin is not None
            contradictions += _contradiction(name, outcome, twin)
        if gone or not report.session_ended:
            missing[number] = tuple(gone)
    return MixedFindings(contradictions=tuple(contradictions), missing=missing, judged=judged, altered=altered)


def _judged_names(tests: Sequence[ProtectedTest], run: MixedRun) -> Iterator[tuple[str, Twin | None]]:
    """Yield the deciding tests that a run speaks of, each with the twin that stood in its place."""
    for position, test in enumerate(tests):
        if test.runs_alone:
            twin = test.twins[run.twins[position]] if position in run.twins else None
            yield from ((name, twin) for name in test.fail_to_pass if twin is None or name in twin.failures)


def _contradiction(name: str, outcome: TestOutcome, twin: Twin | None) -> list[str]:
    if twin is None:
        return [] if outcome is TestOutcome.PASSED else [f"{name} passed in the whole run and {outcome} in a small one"]
    return [] if outcome in _FAILING else [f"{name} {outcome} although it was altered so that it must fail"]


def _own_outcomes(tests: Sequence[ProtectedTest], report: TestReport) -> dict[str, TestOutcome]:
    names = match_ids(tests, report.collected)
    return {names[seen]: outcome for seen, outcome in report.outcomes.items() if seen in names}
