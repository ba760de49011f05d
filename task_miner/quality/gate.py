"""The publish gate: on a task, the true fix scores 1 in every run, and what must not pay scores 0, in fresh boxes.

The graders here are the ones that users run: `envfarm.grading.grade`, the task's own verifier, the task's own bytes.
The true fix goes first, alone: it ends a bad task at once, and its time bounds what a control may take.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import anyio
import msgspec

from envfarm.errors import VerifierError
from envfarm.grading.contract import Verifier
from envfarm.grading.grade import GradingOptions, grade
from envfarm.grading.level import FAST, STANDARD, GradingLevel
from envfarm.records.image import Image
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import Control, TaskPackage
from envfarm.records.verdict import Outcome, Verdict
from envfarm.sandbox.contract import SandboxProvider
from task_miner.quality.controls import ControlSubmission
from task_miner.reasons import ReasonCode
from task_miner.stage_runs import bounded_seconds
from task_miner.together import run_together

_LEAST_TEST_SECONDS = 10.0
_LEAST_RUN_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class GateRequest:
    """What the gate judges.

    Attributes:
        package: The task.
        image: Its image.
        provider: Leases the boxes.
        controls: What must not pay.
        boxes: Bounds the boxes that run at one time; the caller holds none of it.
        verifier: Judges; None for the one that the task names.
        oracle_runs: How often the true fix is graded, at least twice.
    """

    package: TaskPackage
    image: Image
    provider: SandboxProvider
    controls: Sequence[ControlSubmission]
    boxes: anyio.CapacityLimiter
    verifier: Verifier | None = None
    oracle_runs: int = 2


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What the gate found.

    Attributes:
        controls: The table.
        reason: OK, or why the task falls.
        detail: The same in one line.
        fixed_seconds: Wall-clock seconds of the first grading of the true fix.
    """

    controls: tuple[Control, ...]
    reason: ReasonCode
    detail: str = ""
    fixed_seconds: float = 0.0


async def run_gate(request: GateRequest) -> GateResult:
    """Grade the true fix and the controls, and compare.

    The first grading of the true fix runs every test to its end, with all layers on; its other gradings and the
    controls stop at the first test that decides against them. The fix's other gradings have no small runs, since its
    calibration has just made as many; controls begin with the tests that the fix has to mend.

    Raises:
        VerifierError: A grading ended without a reward: the farm's fault, and no judgement of the task.
    """
    oracle = Submission(task_id=request.package.task.task_id, kind=SubmissionKind.ORACLE)
    first = await _grade(request, request.package, oracle)
    if _reward_of(first) != 1.0:
        return _decide(request, [first], [])
    seconds = first.seconds.get("verify", 0.0)
    for_fix = _stopping_early(request.package, seconds, {"stop_at_first_failure": True})
    for_controls = _stopping_early(request.package, seconds, {"stop_at_first_failure": True, "deciding_first": True})
    oracles = [partial(_grade, request, for_fix, oracle, FAST)] * max(request.oracle_runs - 1, 1)
    controls = [partial(_grade, request, for_controls, control.submission) for control in request.controls]
    verdicts = await run_together([*oracles, *controls])
    found = _decide(request, [first, *verdicts[: len(oracles)]], verdicts[len(oracles) :])
    return replace(found, fixed_seconds=first.seconds.get("verify", 0.0))


def _decide(request: GateRequest, oracles: Sequence[Verdict], verdicts: Sequence[Verdict]) -> GateResult:
    """Return the table, and the first row of it that is not as it has to be."""
    rewards = tuple(_reward_of(verdict) for verdict in oracles)
    worst = min(oracles, key=_reward_of)
    table = [Control(name="true_fix", expected_reward=1.0, rewards=rewards, reason=_reason(worst))]
    for control, verdict in zip(request.controls, verdicts, strict=False):
        rewards = (_reward_of(verdict),)
        row = Control(
            name=control.name, expected_reward=control.expected_reward, rewards=rewards, reason=_reason(verdict)
        )
        table.append(row)
    if set(table[0].rewards) != {1.0}:
        return GateResult(controls=tuple(table), reason=ReasonCode.FIX_NOT_SCORED_1, detail=_told(worst))
    for row in table[1:]:
        if set(row.rewards) != {row.expected_reward}:
            detail = f"{row.name} scored {row.rewards[0]:g} where it has to score {row.expected_reward:g}"
            return GateResult(controls=tuple(table), reason=ReasonCode.CONTROL_ACCEPTED, detail=detail)
    return GateResult(controls=tuple(table), reason=ReasonCode.OK)


async def _grade(
    request: GateRequest, package: TaskPackage, submission: Submission, level: GradingLevel = STANDARD
) -> Verdict:
    async with request.boxes:
        return await grade(
            package,
            submission,
            provider=request.provider,
            image=request.image,
            verifier=request.verifier,
            options=GradingOptions(level=level),
        )


def _stopping_early(package: TaskPackage, seconds: float, config: Mapping[str, bool]) -> TaskPackage:
    """Return the task as it is graded where little is expected to pass: as configured, and a hang costs seconds."""
    task = package.task
    tests = msgspec.structs.replace(
        task.tests,
        test_timeout_seconds=bounded_seconds(task.tests.test_timeout_seconds, seconds, _LEAST_TEST_SECONDS),
        run_timeout_seconds=bounded_seconds(task.tests.run_timeout_seconds, seconds, _LEAST_RUN_SECONDS),
    )
    changed = msgspec.structs.replace(task, tests=tests, verifier_config={**task.verifier_config, **config})
    return replace(package, task=changed)


def _reward_of(verdict: Verdict) -> float:
    if verdict.outcome is not Outcome.SCORED or verdict.reward is None:
        failure = verdict.failure
        message = f"a grading of the gate ended without a reward: {failure.message if failure else verdict.outcome}"
        raise VerifierError(message, retryable=True)
    return verdict.reward


def _reason(verdict: Verdict) -> str:
    """Return the names of the checks that were not content: the same words wherever the task is mined."""
    return ", ".join(component.name for component in verdict.components if component.value < 1.0)


def _told(verdict: Verdict) -> str:
    """Return what the checks that were not content say, for the ledger."""
    return "; ".join(f"{part.name}: {part.rationale}" for part in verdict.components if part.value < 1.0)
