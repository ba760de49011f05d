"""The publish gate: on a task, the true fix scores 1 in every run, and what must not pay scores 0, in fresh boxes.

The graders here are the ones that users run: `envfarm.grading.grade`, the task's own verifier, the task's own bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import anyio
import msgspec

from envfarm.errors import VerifierError
from envfarm.grading.grade import grade
from envfarm.records.image import Image
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import Control, TaskPackage
from envfarm.records.verdict import Outcome, Verdict
from envfarm.sandbox.contract import SandboxProvider
from task_miner.quality.controls import ControlSubmission
from task_miner.reasons import ReasonCode

_ORACLE_RUNS = 2


@dataclass(frozen=True, kw_only=True)
class GateRequest:
    """What the gate judges.

    Attributes:
        package: The task.
        image: Its image.
        provider: Leases the boxes.
        controls: What must not pay.
        boxes: Bounds the boxes that run at one time.
    """

    package: TaskPackage
    image: Image
    provider: SandboxProvider
    controls: Sequence[ControlSubmission]
    boxes: anyio.CapacityLimiter


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What the gate found: the table, and why the task falls if it does."""

    controls: tuple[Control, ...]
    reason: ReasonCode
    detail: str = ""


async def run_gate(request: GateRequest) -> GateResult:
    """Grade the true fix and the controls, and compare.

    Raises:
        VerifierError: A grading ended without a reward: the farm's fault, and no judgement of the task.
    """
    oracle = Submission(task_id=request.package.task.task_id, kind=SubmissionKind.ORACLE)
    verdicts = [await _grade(request, request.package, oracle) for _ in range(_ORACLE_RUNS)]
    rewards = tuple(_reward_of(verdict) for verdict in verdicts)
    table = [Control(name="true_fix", expected_reward=1.0, rewards=rewards)]
    if set(rewards) != {1.0}:
        worst = min(verdicts, key=_reward_of)
        return GateResult(controls=tuple(table), reason=ReasonCode.FIX_NOT_SCORED_1, detail=_reason(worst))
    quick = _stopping_early(request.package)
    for control in request.controls:
        verdict = await _grade(request, quick, control.submission)
        reward = _reward_of(verdict)
        row = Control(
            name=control.name, expected_reward=control.expected_reward, rewards=(reward,), reason=_reason(verdict)
        )
        table.append(row)
        if reward != control.expected_reward:
            detail = f"{control.name} scored {reward:g} where it has to score {control.expected_reward:g}"
            return GateResult(controls=tuple(table), reason=ReasonCode.CONTROL_ACCEPTED, detail=detail)
    return GateResult(controls=tuple(table), reason=ReasonCode.OK)


async def _grade(request: GateRequest, package: TaskPackage, submission: Submission) -> Verdict:
    async with request.boxes:
        return await grade(package, submission, provider=request.provider, image=request.image)


def _stopping_early(package: TaskPackage) -> TaskPackage:
    config = {**package.task.verifier_config, "stop_at_first_failure": True}
    return replace(package, task=msgspec.structs.replace(package.task, verifier_config=config))


def _reward_of(verdict: Verdict) -> float:
    if verdict.outcome is not Outcome.SCORED or verdict.reward is None:
        failure = verdict.failure
        message = f"a grading of the gate ended without a reward: {failure.message if failure else verdict.outcome}"
        raise VerifierError(message, retryable=True)
    return verdict.reward


def _reason(verdict: Verdict) -> str:
    """Return the names of the checks that were not content: the same words wherever the task is mined."""
    return ", ".join(component.name for component in verdict.components if component.value < 1.0)
