"""Which proposed twins are kept, by what runs of them showed. PURE.

The n-th candidates of all tests are tried in one run, since tests do not look at each other; so a few runs serve all of
them, and most tests have enough after the first two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envfarm.records.test_report import TestOutcome, TestReport
from envfarm.records.trust import STRONG_KINDS, ProtectedTest, Twin, TwinKind
from envfarm_verifiers.matching import match_ids
from envfarm_verifiers.mixed_plan import MixedRun, prefix_of
from task_miner.languages.guards import ProposedTwin

_STRONG_TRIES, _WEAK_TRIES = 4, 1
FIRST_ROUNDS = 2
"""Candidates of each test that are tried before it is known who needs more."""
ENOUGH = 2
"""Twins that are kept of a test, and after which no more are tried."""
_ASSERTIONS = frozenset({"AssertionError", "Failed"})
_FAILING = frozenset({TestOutcome.FAILED, TestOutcome.ERROR})


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One proposed twin of one protected test.

    Attributes:
        test: Number of the test.
        proposed: The alteration.
    """

    test: int
    proposed: ProposedTwin


def candidate_rounds(proposed: Mapping[int, Sequence[ProposedTwin]]) -> list[list[Candidate]]:
    """Return what to try together, best candidates first."""
    chosen = {number: _worth_trying(twins) for number, twins in proposed.items()}
    rounds = max((len(twins) for twins in chosen.values()), default=0)
    return [
        [Candidate(test=number, proposed=twins[turn]) for number, twins in sorted(chosen.items()) if turn < len(twins)]
        for turn in range(rounds)
    ]


def still_wanted(rounds: Sequence[Sequence[Candidate]], found: Mapping[int, Sequence[Twin]]) -> list[list[Candidate]]:
    """Return the rounds without the tests that have enough strong twins; rounds without any test are gone."""
    have = {n for n, twins in found.items() if sum(twin.kind in STRONG_KINDS for twin in twins) >= ENOUGH}
    left = [[candidate for candidate in tried if candidate.test not in have] for tried in rounds]
    return [tried for tried in left if tried]


def _worth_trying(twins: Sequence[ProposedTwin]) -> list[ProposedTwin]:
    strong = [twin for twin in twins if twin.kind in STRONG_KINDS]
    weak = [twin for twin in twins if twin.kind not in STRONG_KINDS]
    return [*strong[:_STRONG_TRIES], *weak[:_WEAK_TRIES]]


def failures_of(test: ProtectedTest, kind: TwinKind, report: TestReport) -> dict[str, str]:
    """Return the deciding tests that an altered file makes fail as they have to, with the exception's name.

    A changed literal has to fail by assertion: any other error says that the test itself broke. An exchanged exception
    lets the right one escape, whatever it is.
    """
    names = match_ids([test], report.collected)
    found = {}
    for seen, real in names.items():
        detail = report.details.get(seen)
        if real not in test.fail_to_pass or report.outcomes.get(seen) not in _FAILING or detail is None:
            continue
        if kind is TwinKind.EXCEPTION or detail.error in _ASSERTIONS:
            found[real] = detail.error
    return found


def fails_everywhere(test: ProtectedTest, names: Sequence[str], report: TestReport) -> bool:
    """Say whether none of the tests passes in a report of an altered file.

    Where the run came to its end, a test without an outcome did not pass; where it hung or died, nothing is known. Of a
    definition that collected another number of tests than it has, none may pass.
    """
    own = match_ids([test], report.collected)
    seen = {own[name]: outcome for name, outcome in report.outcomes.items() if name in own}
    known = [seen.get(name) for name in names]
    prefixes = {prefix_of(name) for name in names if name not in own.values()}
    known += [outcome for name, outcome in report.outcomes.items() if name not in own and prefix_of(name) in prefixes]
    return TestOutcome.PASSED not in known and (report.session_ended or None not in known)


def choose_twins(twins: Sequence[Twin]) -> tuple[Twin, ...]:
    """Return the twins to keep: strong ones where there are any, each of another alteration."""
    strong = [twin for twin in twins if twin.strong]
    kept: list[Twin] = []
    for twin in strong or twins:
        if all(twin.edits != other.edits for other in kept):
            kept.append(twin)
    return tuple(kept[:ENOUGH])


def confirming_plans(tests: Sequence[ProtectedTest]) -> list[MixedRun]:
    """Return runs in which each twin stands once, beside real tests as well as beside altered ones."""
    turns = range(max((len(test.twins) for test in tests), default=0))
    having = [[number for number, test in enumerate(tests) if turn < len(test.twins)] for turn in turns]
    halves = [(turn, numbers[part::2]) for turn, numbers in enumerate(having) for part in (0, 1)]
    return [MixedRun(twins=dict.fromkeys(half, turn)) for turn, half in halves if half]
