"""Makes what the layers know of a task, by running its tests under the true fix and on the base, when it is published.

Nothing is taken from a proposal that its runs did not show: a value is kept outside only where the true fix answers
with plain data that is right, a twin only where it fails under the fix in every run. What the fix's own run shows to
the watching layers is no alarm later.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath

import anyio
import msgspec

from envfarm.errors import VerifierError
from envfarm.grading.contract import Lease
from envfarm.grading.submission_patch import plan_submission
from envfarm.records.image import Image
from envfarm.records.task import FIX_PATCH, Protection, TaskPackage
from envfarm.records.test_report import TestOutcome, TestReport
from envfarm.records.trust import STRONG_KINDS, Calibration, ProtectedTest, TrustPlan, Twin
from envfarm_verifiers.box_run import BoxRequest, BoxRun, run_in_box
from envfarm_verifiers.canaries import add_canaries
from envfarm_verifiers.coins import draws
from envfarm_verifiers.mixed_judge import judge_mixed_runs
from envfarm_verifiers.mixed_plan import MixedRun, definitions_of, prefix_of
from envfarm_verifiers.report_stream import CHANGED
from envfarm_verifiers.test_command import TestCommand
from envfarm_verifiers.test_files import apply_edits, read_reference
from envfarm_verifiers.unit_tests import make_command
from task_miner.languages.guards import ProposedTest, ProposedTwin
from task_miner.quality.check_choice import is_protected_by_values, keep_checks, read_answers
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

_LEAST_TEST_SECONDS, _LEAST_RUN_SECONDS, _SLACK = 5.0, 20.0, 4.0
"""An altered test that hangs is of no use: it is given up soon."""
Propose = Callable[[PurePosixPath, bytes | None, bytes, frozenset[str]], Sequence[ProposedTest]]
"""Path, base content, fixed content, names of functions without their classes; the proposals."""


@dataclass(frozen=True, kw_only=True)
class CalibrationRequest:
    """What to calibrate.

    Attributes:
        package: The task.
        image: Its image.
        lease: Leases a fresh box.
        base_tests: Base content of test files, by path.
        propose: The language's.
        boxes: Bounds the boxes that run at one time; the caller holds none of it.
    """

    package: TaskPackage
    image: Image
    lease: Lease
    base_tests: Mapping[str, bytes] = field(repr=False)
    propose: Propose
    boxes: anyio.CapacityLimiter


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
    bench = _Bench(request)
    first = await bench.run(bench.fix, bench.whole(watched=True), checks_files=True)
    report = _report(first)
    bench.seconds = first.run.result.wall_seconds if first.run is not None else None
    tests, proposed = _find_tests(request, bench.reference, report)
    tests, files, hidden = await _calibrate_checks(bench, tests, proposed, report)
    tests = await _calibrate_twins(bench, tests, {number: found.twins for number, found in proposed.items()})
    findings = [*report.findings, *hidden.findings]
    calibration = Calibration(
        audit_kinds=tuple(sorted({item.kind for item in findings if item.kind != CHANGED})),
        changed_names=tuple(sorted({item.where for item in findings if item.kind == CHANGED})),
        unchecked_paths=tuple(sorted(first.changed_files)),
    )
    protection = await _protection(bench, tests)
    plan = TrustPlan(tests=tests, canary_files=files, calibration=calibration)
    return Calibrated(plan=plan, protection=protection, runs=bench.count)


async def _protection(bench: "_Bench", tests: Sequence[ProtectedTest]) -> Protection:
    """Return how many functions are protected by what; values count where the base gets them wrong."""
    on_base = TestReport()
    if any(test.checks for test in tests):
        on_base = await bench.report(bench.base, bench.small(tests, asking=True), _asking(bench, tests))
    answers = read_answers(tests, on_base)
    covered = {prefix_of(name) for test in tests for name in test.fail_to_pass}
    deciding = {prefix_of(name) for name in bench.request.package.task.tests.fail_to_pass}
    counts = {"values": 0, "strong_twins": 0, "weak_twins": 0, "none": len(deciding - covered)}
    for test in tests:
        if is_protected_by_values(test, answers):
            counts["values"] += 1
        elif any(twin.strong for twin in test.twins):
            counts["strong_twins"] += 1
        else:
            counts["weak_twins" if test.twins else "none"] += 1
    return Protection(**counts)


class _Bench:
    """Runs tests of the task in boxes, and counts them."""

    def __init__(self, request: CalibrationRequest) -> None:
        self.request = request
        self.count = 0
        package = request.package
        self.fix = plan_submission(package.files[FIX_PATCH], package.task.tests.protected).kept_patch
        self.base = b""
        self.seconds: float | None = None
        self.reference = read_reference(self._box(b"").reference())

    def whole(self, *, watched: bool = False, asking: bool = False) -> TestCommand:
        """Return the command of a whole run; once one was seen, what takes much longer than it is ended."""
        command = replace(make_command(self.request.package.task, {}), watched=watched, asking=asking)
        if self.seconds is None:
            return command
        test_seconds = max(_LEAST_TEST_SECONDS, _SLACK * self.seconds)
        run_seconds = max(_LEAST_RUN_SECONDS, _SLACK * self.seconds)
        return replace(
            command,
            test_timeout_seconds=min(command.test_timeout_seconds, test_seconds),
            run_timeout_seconds=min(command.run_timeout_seconds, run_seconds),
        )

    def small(self, tests: Sequence[ProtectedTest], *, asking: bool = False) -> TestCommand:
        """Return the command of a run of the deciding tests."""
        command = replace(self.whole(asking=asking), light=True)
        definitions = definitions_of(tests)
        wanted = {name.split("::", 1)[0] for name in definitions}
        paths = tuple(path for path in command.paths if path in wanted)
        return replace(command, paths=paths, only_definitions=definitions)

    async def run(
        self,
        patch: bytes,
        command: TestCommand,
        *,
        altered: Mapping[str, bytes] | None = None,
        checks_files: bool = False,
    ) -> BoxRun:
        """Run once."""
        self.count += 1
        async with self.request.boxes:
            return await run_in_box(self._box(patch), command, altered=altered, checks_files=checks_files)

    async def report(self, patch: bytes, command: TestCommand, altered: Mapping[str, bytes]) -> TestReport:
        """Run once and return the report; an empty one where the run did not come to its end."""
        report = await self.partial_report(patch, command, altered)
        return report if report.session_ended else TestReport()

    async def partial_report(self, patch: bytes, command: TestCommand, altered: Mapping[str, bytes]) -> TestReport:
        """Run once and return the report, as far as it came: a test that hangs takes nothing from those before it."""
        found = await self.run(patch, command, altered=altered)
        return found.run.report if found.run is not None else TestReport()

    def _box(self, patch: bytes) -> BoxRequest:
        request = self.request
        return BoxRequest(package=request.package, image=request.image, lease=request.lease, patch=patch)


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
    bench: _Bench, tests: tuple[ProtectedTest, ...], proposed: Mapping[int, ProposedTest], plain: TestReport
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


def _asking(bench: _Bench, tests: Sequence[ProtectedTest]) -> dict[str, bytes]:
    return apply_edits(bench.reference, (edit for test in tests for check in test.checks for edit in check.edits))


async def _calibrate_twins(
    bench: _Bench, tests: tuple[ProtectedTest, ...], proposed: Mapping[int, Sequence[ProposedTwin]]
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
    bench: _Bench, command: TestCommand, tests: Sequence[ProtectedTest], rounds: Sequence[Sequence[Candidate]]
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
    bench: _Bench, command: TestCommand, tests: Sequence[ProtectedTest], found: Mapping[int, Sequence[Twin]]
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


async def _try_round(bench: _Bench, patch: bytes, command: TestCommand, tried: Sequence[Candidate]) -> TestReport:
    altered = apply_edits(bench.reference, (edit for candidate in tried for edit in candidate.proposed.edits))
    return await bench.partial_report(patch, command, altered)


async def _confirm(bench: _Bench, command: TestCommand, tests: tuple[ProtectedTest, ...]) -> tuple[ProtectedTest, ...]:
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
