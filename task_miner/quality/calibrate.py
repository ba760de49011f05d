"""Makes what the layers know of a task, by running its tests under the true fix and on the base, when it is published.

Nothing is taken from a proposal that its runs did not show: a value is kept outside only where the true fix answers
with plain data that is right, a twin only where it fails under the fix in every run. What the fix's own run shows to
the watching layers is no alarm later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

import msgspec

from envfarm.errors import VerifierError
from envfarm.records.task import Protection
from envfarm.records.test_report import TestOutcome, TestReport
from envfarm.records.trust import STRONG_KINDS, Calibration, ProtectedTest, TrustPlan, Twin
from envfarm_verifiers.box_run import BoxRun
from envfarm_verifiers.canaries import add_canaries
from envfarm_verifiers.coins import draws
from envfarm_verifiers.mixed_judge import judge_mixed_runs
from envfarm_verifiers.mixed_plan import MixedRun, prefix_of
from envfarm_verifiers.report_stream import CHANGED
from envfarm_verifiers.test_command import TestCommand
from envfarm_verifiers.test_files import apply_edits
from task_miner.languages.guards import ProposedTest, ProposedTwin
from task_miner.quality.calibrate_data import calibrate_data
from task_miner.quality.calibration_bench import CalibrationBench, CalibrationRequest
from task_miner.quality.check_choice import Answers, is_protected_by_values, keep_checks, read_answers
from task_miner.quality.twin_choice import (
    FIRST_ROUNDS,
    Candidate,
    candidate_rounds,
    choose_twins,
    confirming_plans,
    fails_everywhere,
    failures_of,
    still_wanted,
)
from task_miner.together import run_together


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What came of it.

    Attributes:
        plan: What the layers know; the task's hidden part.
        protection: How the deciding functions are protected.
        runs: Boxes that were run.
    """

    plan: TrustPlan
    protection: Protection
    runs: int


async def calibrate(request: CalibrationRequest) -> Calibrated:
    """Return what the layers know of a task.

    Raises:
        BoundaryError: A box could not be had, or the true fix does not run as it did when the task was validated.
    """
    bench = CalibrationBench(request)
    first = await bench.run(bench.fix, bench.whole(watched=True), checks_files=True)
    report = _report(first)
    bench.seconds = first.run.result.wall_seconds if first.run is not None else None
    tests, proposed = _find_tests(request, bench.reference, report)
    tests, files, hidden = await _calibrate_checks(bench, tests, proposed, report)
    tests = await _calibrate_twins(bench, tests, {number: found.twins for number, found in proposed.items()})
    tests = await _with_data(bench, tests, report)
    findings = [*report.findings, *hidden.findings]
    calibration = Calibration(
        audit_kinds=tuple(sorted({item.kind for item in findings if item.kind != CHANGED})),
        changed_names=tuple(sorted({item.where for item in findings if item.kind == CHANGED})),
        unchecked_paths=tuple(sorted(first.changed_files)),
    )
    protection = await _protection(bench, tests)
    plan = TrustPlan(tests=tests, canary_files=files, calibration=calibration)
    return Calibrated(plan=plan, protection=protection, runs=bench.count)


async def _with_data(
    bench: CalibrationBench, tests: tuple[ProtectedTest, ...], report: TestReport
) -> tuple[ProtectedTest, ...]:
    """Return the tests with what data files protect, confirmed, in the place of definitions that have nothing else."""
    covered = {name for test in tests if test.checks or test.twins for name in test.ids}
    deciding = bench.request.package.task.tests.fail_to_pass
    uncovered = tuple(name for name in deciding if name in report.collected and name not in covered)
    found = await calibrate_data(bench, tests, uncovered)
    if not found:
        return tests
    taken = {name for test in found for name in test.fail_to_pass}
    kept = tuple(test for test in tests if not taken.intersection(test.fail_to_pass))
    return kept + await _confirm(bench, bench.small([*kept, *found]), found)


async def _protection(bench: CalibrationBench, tests: Sequence[ProtectedTest]) -> Protection:
    """Return how many functions are protected by what; values count where the base gets them wrong."""
    on_base = TestReport()
    if any(test.checks for test in tests):
        on_base = await bench.report(bench.base, bench.small(tests, asking=True), _asking(bench, tests))
    answers = read_answers(tests, on_base)
    best: dict[str, str] = {prefix_of(name): "none" for name in bench.request.package.task.tests.fail_to_pass}
    for test in tests:
        kind = _kind_of(test, answers)
        for prefix in {prefix_of(name) for name in test.fail_to_pass}:
            best[prefix] = min(best.get(prefix, kind), kind, key=_KINDS.index)
    return Protection(**{kind: sum(found == kind for found in best.values()) for kind in _KINDS})


_KINDS = ("values", "strong_twins", "weak_twins", "none")


def _kind_of(test: ProtectedTest, answers: Answers) -> str:
    if is_protected_by_values(test, answers):
        return "values"
    if any(twin.strong for twin in test.twins):
        return "strong_twins"
    return "weak_twins" if test.twins else "none"


def _report(found: BoxRun) -> TestReport:
    if found.run is None or not found.run.report.session_ended:
        message = "the true fix's run did not come to its end while the task was calibrated"
        raise VerifierError(message, retryable=True)
    return found.run.report


def _find_tests(
    request: CalibrationRequest, reference: Mapping[str, bytes], report: TestReport
) -> tuple[tuple[ProtectedTest, ...], dict[int, ProposedTest]]:
    """Return the deciding definitions with the ids that run them, and what is proposed for each by its number."""
    deciding = frozenset(request.package.task.tests.fail_to_pass)
    wanted = {report.origins[name][0] for name in deciding if name in report.origins}
    tests: list[ProtectedTest] = []
    proposals: dict[int, ProposedTest] = {}
    for path in sorted(wanted & reference.keys()):
        functions = frozenset(_function(name) for name in deciding if report.origins.get(name, ("", 0))[0] == path)
        for found in request.propose(PurePosixPath(path), request.base_tests.get(path), reference[path], functions):
            ids = tuple(
                name
                for name in report.collected
                if (origin := report.origins.get(name)) is not None
                and origin[0] == path
                and found.first_line <= origin[1] <= found.last_line
            )
            own = tuple(name for name in ids if name in deciding)
            if own:
                proposals[len(tests)] = found
                tests.append(ProtectedTest(path=path, name=found.name, ids=ids, fail_to_pass=own))
    return tuple(tests), proposals


def _function(node_id: str) -> str:
    return node_id.split("[", 1)[0].rsplit("::", 1)[-1]


async def _calibrate_checks(
    bench: CalibrationBench, tests: tuple[ProtectedTest, ...], proposed: Mapping[int, ProposedTest], plain: TestReport
) -> tuple[tuple[ProtectedTest, ...], tuple[str, ...], TestReport]:
    """Return the tests with the values that can stay outside, files that can carry a canary, and the last run."""
    tests = _with_checks(tests, proposed)
    passing = frozenset(name for name, outcome in plain.outcomes.items() if outcome is TestOutcome.PASSED)
    if any(test.checks for test in tests):
        report = await bench.report(bench.fix, bench.small(tests, asking=True), _asking(bench, tests))
        answers = read_answers(tests, report)
        tests = tuple(keep_checks(test, answers, passing) for test in tests)
    paths = sorted({test.path for test in tests})
    altered = {**_asking(bench, tests)}
    seed = bench.request.package.task.task_id.encode()  # the task's bytes must not depend on where it is mined
    ids: dict[str, str] = {}
    for path in paths:
        found = add_canaries([path], {**bench.reference, **altered}, draws(seed, path))
        altered |= found.files
        ids[found.ids[0]] = path
    report = await bench.report(bench.fix, bench.whole(asking=True, watched=True), altered)
    answers = read_answers(tests, report)
    tests = tuple(keep_checks(test, answers, passing) for test in tests)
    failed = {ids[name] for name in ids if report.outcomes.get(name) is TestOutcome.FAILED}
    return tests, tuple(sorted(failed)), report


def _with_checks(tests: Sequence[ProtectedTest], proposed: Mapping[int, ProposedTest]) -> tuple[ProtectedTest, ...]:
    number = token = 0
    made = []
    for position, test in enumerate(tests):
        checks = []
        for check in proposed[position].checks:
            checks.append(check.numbered(number, token))
            number, token = number + 1, token + check.token_count
        made.append(msgspec.structs.replace(test, checks=tuple(checks)))
    return tuple(made)


def _asking(bench: CalibrationBench, tests: Sequence[ProtectedTest]) -> dict[str, bytes]:
    return apply_edits(bench.reference, (edit for test in tests for check in test.checks for edit in check.edits))


async def _calibrate_twins(
    bench: CalibrationBench, tests: tuple[ProtectedTest, ...], proposed: Mapping[int, Sequence[ProposedTwin]]
) -> tuple[ProtectedTest, ...]:
    """Return the tests with the twins that fail as they have to, wherever and whenever they are run."""
    if not tests:
        return tests
    command = bench.small(tests)
    rounds = candidate_rounds(proposed)
    found = await _tried(bench, command, tests, rounds[:FIRST_ROUNDS])
    more = await _tried(bench, command, tests, still_wanted(rounds[FIRST_ROUNDS:], found))
    found = {number: [*found.get(number, []), *more.get(number, [])] for number in {*found, *more}}
    on_base = await _seen_on_base(bench, command, tests, found)
    chosen = tuple(
        msgspec.structs.replace(test, twins=choose_twins(on_base.get(number, []))) for number, test in enumerate(tests)
    )
    return await _confirm(bench, command, chosen)


async def _tried(
    bench: CalibrationBench, command: TestCommand, tests: Sequence[ProtectedTest], rounds: Sequence[Sequence[Candidate]]
) -> dict[int, list[Twin]]:
    """Return the candidates that fail under the true fix, by number of the test; none counts as strong yet."""
    reports = await run_together([partial(_try_round, bench, bench.fix, command, tried) for tried in rounds])
    found: dict[int, list[Twin]] = {}
    for tried, report in zip(rounds, reports, strict=True):
        for candidate in tried:
            twin = candidate.proposed
            failures = failures_of(tests[candidate.test], twin.kind, report)
            if failures:
                made = Twin(kind=twin.kind, line=twin.line, edits=twin.edits, strong=False, failures=failures)
                found.setdefault(candidate.test, []).append(made)
    return found


async def _seen_on_base(
    bench: CalibrationBench, command: TestCommand, tests: Sequence[ProtectedTest], found: Mapping[int, Sequence[Twin]]
) -> dict[int, list[Twin]]:
    """Return the twins with those strong that fail on the base as well."""
    turns = range(max((len(twins) for twins in found.values()), default=0))
    plans = [MixedRun(twins={n: turn for n, twins in found.items() if turn < len(twins)}) for turn in turns]
    having = [msgspec.structs.replace(test, twins=tuple(found.get(n, ()))) for n, test in enumerate(tests)]
    reports = await run_together(
        [partial(bench.partial_report, bench.base, command, plan.files(having, bench.reference)) for plan in plans]
    )
    judged: dict[int, list[Twin]] = {number: [] for number in found}
    for plan, report in zip(plans, reports, strict=True):
        for number, turn in plan.twins.items():
            twin = found[number][turn]
            strong = twin.kind in STRONG_KINDS and fails_everywhere(tests[number], tuple(twin.failures), report)
            judged[number].append(msgspec.structs.replace(twin, strong=strong))
    return judged


async def _try_round(
    bench: CalibrationBench, patch: bytes, command: TestCommand, tried: Sequence[Candidate]
) -> TestReport:
    altered = apply_edits(bench.reference, (edit for candidate in tried for edit in candidate.proposed.edits))
    return await bench.partial_report(patch, command, altered)


async def _confirm(
    bench: CalibrationBench, command: TestCommand, tests: tuple[ProtectedTest, ...]
) -> tuple[ProtectedTest, ...]:
    """Run each twin once more under the true fix, beside real tests; whatever is unexpected drops its twin."""
    plans = confirming_plans(tests)
    reports = await run_together(
        [partial(bench.report, bench.fix, command, plan.files(tests, bench.reference)) for plan in plans]
    )
    bad: set[tuple[int, int]] = set()
    not_alone: set[int] = set()
    for plan, report in zip(plans, reports, strict=True):
        for number, test in enumerate(tests):
            own = MixedRun(twins={0: plan.twins[number]} if number in plan.twins else {})
            found = judge_mixed_runs([test], [own], [report])
            if not found.contradictions and not found.missing:
                continue
            if number in plan.twins:
                bad.add((number, plan.twins[number]))
            else:
                not_alone.add(number)
    return tuple(
        msgspec.structs.replace(
            test,
            twins=tuple(twin for turn, twin in enumerate(test.twins) if (number, turn) not in bad),
            runs_alone=number not in not_alone,
        )
        for number, test in enumerate(tests)
    )
