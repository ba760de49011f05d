"""What the judging of a Harbor task's steps comes to, and what people are told of it. PURE."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from envfarm.errors import RewardError
from envfarm.foreign.harbor_plan import HarborPlan
from envfarm.foreign.request import ForeignJudgement
from envfarm.foreign.rewards import Rewards, aggregate, choose_reward
from envfarm.records.verdict import Component
from envfarm.sandbox.contract import ExecResult

_SHOWN_BYTES, _QUOTED_BYTES = 4000, 600


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What became of one step.

    Attributes:
        name: Of the step; empty for a task without steps.
        rewards: What its verifier wrote.
        notes: What people should know.
        output: The end of what the test script printed.
        stopped: Why no step came after it; None where one did, or none is left.
    """

    name: str
    rewards: Rewards
    notes: tuple[str, ...]
    output: bytes = field(repr=False)
    stopped: str | None


def judge_steps(results: Sequence[StepResult], plan: HarborPlan, key: str | None) -> ForeignJudgement:
    """Return reward and components of all steps that were judged.

    Args:
        results: One for each, in order.
        plan: The task.
        key: Which reward counts; None where there is one.

    Raises:
        RewardError: There are several, and none is chosen.
    """
    rewards = aggregate([result.rewards for result in results], takes_last=plan.takes_last_step)
    reward = choose_reward(rewards, key)
    components = [part for result in results for part in _components(result, is_last=len(results) == len(plan.steps))]
    return ForeignJudgement(reward=reward, components=tuple(components))


def _components(result: StepResult, *, is_last: bool) -> list[Component]:
    prefix = f"{result.name}: " if result.name else ""
    written = "written by the task's verifier"
    components = [
        Component(name=f"{prefix}{name}", value=value, rationale=written)
        for name, value in sorted(result.rewards.items())
    ]
    if result.stopped is not None and not is_last:
        told = f"the steps end here: {result.stopped}"
        components.append(Component(name=f"{prefix}min_reward", value=0.0, rationale=told))
    components += [
        Component(name=f"{prefix}note", value=0.0, rationale=note, evidence={"role": "note"}) for note in result.notes
    ]
    return [*components, output_component(f"{prefix}output", result.output)]


def output_component(name: str, output: bytes) -> Component:
    """Return a note that shows the end of an output to whoever asks for evidence."""
    text = output[-_SHOWN_BYTES:].decode("utf-8", "replace")
    return Component(name=name, value=1.0, rationale="what was printed", evidence={"role": "note", "end": text})


def told_with(error: RewardError, script: PurePosixPath, result: ExecResult, output: bytes) -> RewardError:
    """Return the same error, with how the script ended and the end of what it printed."""
    end = f"exit code {result.exit_code}" if result.signal is None else f"signal {result.signal}"
    words = output[-_QUOTED_BYTES:].decode("utf-8", "replace").strip()
    printed = f" and printed last: {words}" if words else " and printed nothing"
    message = f"{error}; {script} ended with {end}{printed}"
    return RewardError(message, code=error.code, attribution=error.attribution)
