"""Runs a candidate's tests on one side of its fix: one fresh box per run, from the unpacked base to a stage's run.

The order in a box is the grader's: the fix's own part is applied, the hidden tests are placed, then the tests start.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio
import msgspec

from envfarm.errors import ImageBuildError
from envfarm.records.image import Image
from envfarm.records.task import Environment, StageRun, TestPlan
from envfarm.records.test_report import TestOutcome, TestReport
from envfarm.sandbox.contract import LeaseRequest, Network, Sandbox, SandboxProvider
from envfarm_verifiers.patch_application import apply_patch
from envfarm_verifiers.test_files import Placement
from envfarm_verifiers.test_run import TestRun, trusted_folder
from task_miner.classify import CRASHED, DUPLICATE, MISSING
from task_miner.languages.contract import Language, Selection

OLD_TESTS, NEW_TESTS, FIXED = "base_old_tests", "base_new_tests", "fixed_new_tests"
"""Names of the stages, as `StageRun.stage` tells them."""
ORDER_SEED = 20_240_229
"""Shuffles the last run of a side: the same everywhere."""

_OTHER_HASH_SEED = "4242"
_LEAST_TEST_SECONDS = 10.0
_LEAST_RUN_SECONDS = 60.0
_SLACK = 20.0
_RESUMPTIONS = 5
_ENDED_WELL = frozenset({0, 1, 5})
"""Statuses of pytest that speak of tests: all passed, some failed, none collected."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every run of a candidate's tests needs.

    Attributes:
        provider: Leases the boxes.
        image: Its workspace is at the base.
        language: Runs the tests.
        environment: The installed environment.
        plan: Paths, limits, protected patterns and removed paths; its lists of tests are not read.
        reference_archive: Protected files as they have to be.
        fix_patch: The part of the true fix that a submission could have.
        boxes: Bounds the boxes that run at one time, with those of other candidates.
    """

    provider: SandboxProvider
    image: Image
    language: Language
    environment: Environment
    plan: TestPlan
    reference_archive: bytes = field(repr=False)
    fix_patch: bytes = field(repr=False)
    boxes: anyio.CapacityLimiter

    @asynccontextmanager
    async def lease(self, label: str) -> AsyncIterator[Sandbox]:
        """Give a fresh box at the base, once there is room for it."""
        request = LeaseRequest(
            image=self.image, folders=(trusted_folder(),), network=Network.NONE, labels={"purpose": label}
        )
        async with self.boxes, self.provider.lease(request) as sandbox:
            yield sandbox

    async def apply_fix(self, sandbox: Sandbox) -> None:
        """Apply the true fix to a fresh box.

        Raises:
            ImageBuildError: It does not apply to the base that it was made from.
        """
        applied = await apply_patch(sandbox, self.fix_patch)
        if not applied.applied:
            message = f"the true fix does not apply to its own base: {applied.message}"
            raise ImageBuildError(message)

    async def run_tests(
        self, sandbox: Sandbox, selection: Selection, *, environment: Environment | None = None, hidden: bool = True
    ) -> TestRun:
        """Run the plan's tests in a box, with the hidden tests placed or as the base has them.

        Raises:
            ImageBuildError: The box has no room for the hidden tests.
            BoundaryError: The box failed.
        """
        plan = self.plan
        placement = Placement(
            archive=self.reference_archive, protected=plan.protected, removed_paths=plan.removed_paths
        )
        chosen = replace(selection, placement=placement if hidden else None)
        run = await self.language.run_tests(sandbox, plan, environment or self.environment, chosen)
        if not run.placed:
            message = "the box has no room for the hidden tests"
            raise ImageBuildError(message)
        return run

    def limited_by(self, wall_seconds: float, *, least_test_seconds: float = _LEAST_TEST_SECONDS) -> "Bench":
        """Return a bench whose limits fit a suite that took so long: what then hangs costs seconds, not minutes.

        A test of the fixed side never took longer than its whole run; twenty times that is slack enough for anything
        but a hang.
        """
        plan = msgspec.structs.replace(
            self.plan,
            test_timeout_seconds=bounded_seconds(self.plan.test_timeout_seconds, wall_seconds, least_test_seconds),
            run_timeout_seconds=bounded_seconds(self.plan.run_timeout_seconds, wall_seconds, _LEAST_RUN_SECONDS),
        )
        return replace(self, plan=plan)


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """One run of a stage, and what people may want to see of it.

    Attributes:
        run: What classes are made of.
        messages: By id: the text of each test that did not pass; by path: of each file that was not collected.
        output: The end of what the process printed.
        wall_seconds: Time of the run itself.
        problems: What is wrong with the report.
    """

    run: StageRun
    messages: dict[str, str]
    output: str
    wall_seconds: float
    problems: tuple[str, ...] = ()


async def run_stage(
    bench: Bench, stage: str, *, shuffled: bool = False, expected: frozenset[str] = frozenset()
) -> StageResult:
    """Run all tests of a stage once, in a fresh box.

    A run that is cut (the process died, or hung where no limit of a test reaches it) is gone on with in another fresh
    box, without the tests that had their turn: one that had none says nothing of the fix.

    Args:
        bench: What is run, and in what.
        stage: `OLD_TESTS`, `NEW_TESTS` or `FIXED`.
        shuffled: Whether the order is random, and hashes have another seed.
        expected: Tests that a cut run is gone on for.

    Raises:
        BoundaryError: The box failed, or the candidate's own files do not fit into it.
    """
    result = await _run_once(bench, stage, shuffled=shuffled, only_ids=())
    for _ in range(_RESUMPTIONS):
        left = tuple(sorted(expected - _had_their_turn(result.run)))
        if result.run.session_ended or not left:
            break
        rest = await _run_once(bench, stage, shuffled=shuffled, only_ids=left)
        if not _had_their_turn(rest.run).intersection(left):
            break
        result = _joined(result, rest)
    return result


def _had_their_turn(run: StageRun) -> frozenset[str]:
    return frozenset(name for name, outcome in run.outcomes.items() if outcome != MISSING)


async def _run_once(bench: Bench, stage: str, *, shuffled: bool, only_ids: tuple[str, ...]) -> StageResult:
    environment = _reseeded(bench.environment) if shuffled else bench.environment
    selection = Selection(order_seed=ORDER_SEED if shuffled else None, only_ids=only_ids)
    async with bench.lease(stage) as sandbox:
        if stage == FIXED:
            await bench.apply_fix(sandbox)
        run = await bench.run_tests(sandbox, selection, environment=environment, hidden=stage != OLD_TESTS)
    return read_run(stage, run, order_seed=selection.order_seed, paths=bench.plan.paths)


def read_run(stage: str, run: TestRun, *, order_seed: int | None, paths: tuple[str, ...]) -> StageResult:
    """Return what a run came to, in the words of classes. PURE."""
    report, result = run.report, run.result
    outcomes = {name: str(outcome) for name, outcome in report.outcomes.items()}
    if not report.session_ended and not result.timed_out:
        outcomes |= dict.fromkeys(_unfinished(report), CRASHED)
    outcomes |= dict.fromkeys(report.duplicate_ids, DUPLICATE)
    uncollected = tuple(sorted(report.collection_errors))
    if not outcomes and not uncollected and report.session_ended and report.exit_status not in _ENDED_WELL:
        uncollected = paths
    output = (result.stdout[-4000:] + b"\n" + result.stderr[-4000:]).decode("utf-8", "replace").strip()
    messages = {name: detail.message for name, detail in report.details.items() if detail.message}
    return StageResult(
        run=StageRun(
            stage=stage,
            order_seed=order_seed,
            outcomes=dict(sorted(outcomes.items())),
            collection_errors=uncollected,
            session_ended=report.session_ended,
            timed_out=result.timed_out,
        ),
        messages=messages | dict(report.collection_errors),
        output=output,
        wall_seconds=result.wall_seconds,
        problems=report.problems,
    )


def bounded_seconds(limit: float, wall_seconds: float, least: float) -> float:
    """Return a limit that fits a suite of this length; never above the limit given. PURE."""
    return min(limit, max(least, float(math.ceil(wall_seconds * _SLACK))))


def _unfinished(report: TestReport) -> list[str]:
    """Return the tests that had begun when the report broke off: the parser calls them timeouts."""
    begun = "the test had begun and never ended"
    return [
        name
        for name, outcome in report.outcomes.items()
        if outcome is TestOutcome.TIMEOUT and (detail := report.details.get(name)) and detail.message == begun
    ]


def _reseeded(environment: Environment) -> Environment:
    if "PYTHONHASHSEED" in environment.environment_variables:
        return environment
    variables = environment.environment_variables | {"PYTHONHASHSEED": _OTHER_HASH_SEED}
    return msgspec.structs.replace(environment, environment_variables=variables)


def _joined(first: StageResult, rest: StageResult) -> StageResult:
    """Return two halves of one run as one."""
    known = {name: first.run.outcomes[name] for name in _had_their_turn(first.run)}
    run = msgspec.structs.replace(
        first.run,
        outcomes=dict(sorted((first.run.outcomes | rest.run.outcomes | known).items())),
        session_ended=rest.run.session_ended,
        timed_out=first.run.timed_out or rest.run.timed_out,
    )
    return replace(
        first,
        run=run,
        messages=rest.messages | first.messages,
        output=f"{first.output}\n{rest.output}",
        wall_seconds=first.wall_seconds + rest.wall_seconds,
        problems=first.problems + rest.problems,
    )
