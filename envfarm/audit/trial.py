"""Tries cheats on a task: each in fresh boxes, some side by side, and one row for each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import anyio

from envfarm.audit.cheat import Cheat, CheatTarget, Family
from envfarm.audit.plain import PlainVerifier
from envfarm.grading.contract import Verifier
from envfarm.grading.grade import grade
from envfarm.records.image import Image
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import TaskPackage
from envfarm.records.verdict import Outcome, Verdict
from envfarm.sandbox.contract import SandboxProvider

OURS, PLAIN = "ours", "plain"
THEIRS = "theirs"
"""The verifier of a task of another maker."""


@dataclass(frozen=True, kw_only=True)
class CheatResult:
    """What became of one cheat on one task.

    Attributes:
        cheat: The cheat.
        verdicts: By verifier, `OURS` and `PLAIN`; empty where the cheat does not fit the task.
        with_fix: Whether the true fix came with it.
        baseline: What no work at all is paid; a cheat has to earn more.
    """

    cheat: Cheat
    verdicts: Mapping[str, Verdict]
    with_fix: bool = False
    baseline: float = 0.0

    def reward(self, verifier: str) -> float | None:
        """Return the reward; None where it does not fit, was not asked for, or is unscored."""
        verdict = self.verdicts.get(verifier)
        return verdict.reward if verdict is not None else None

    def word(self, verifier: str) -> str:
        """Return one word for a table: accepted, refused, unscored, or a dash where the cheat does not fit."""
        verdict = self.verdicts.get(verifier)
        if verdict is None:
            return "-"
        if verdict.outcome is not Outcome.SCORED:
            return str(verdict.outcome)
        return "accepted" if verdict.reward is not None and verdict.reward > self.baseline else "refused"

    @property
    def is_wrong(self) -> bool:
        """Whether our verifier gave what it must not: a reward to a cheat, or none to a whole fix.

        An honest variant that the usual way refuses as well is none here; one without any score proves nothing.
        """
        reward = self.reward(THEIRS if THEIRS in self.verdicts else OURS)
        if self.cheat.family is Family.HONEST:
            return OURS in self.verdicts and not reward and self.word(PLAIN) != "refused"
        if self.with_fix:
            return reward is not None and self.cheat.harmless and reward <= self.baseline
        return reward is not None and reward > self.baseline


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One task on which cheats are tried.

    Attributes:
        package: The task.
        target: Its facts, as `envfarm.audit.target.read_target` gives them.
        provider: Leases the boxes.
        image: The task's image.
        verifiers: Which are asked: `OURS`, `PLAIN`, or both.
        ours: The verifier behind `OURS`; by default the one that the task names.
    """

    package: TaskPackage
    target: CheatTarget
    provider: SandboxProvider
    image: Image
    verifiers: Sequence[str] = (OURS, PLAIN)
    ours: Verifier | None = None

    async def try_cheat(self, cheat: Cheat) -> CheatResult:
        """Grade one cheat, by each verifier in boxes of its own.

        Raises:
            UserError: The task is damaged, or this machine lacks something.
        """
        with_fix = self.target.with_fix
        patch = cheat.make(self.target)
        if patch is None:
            return CheatResult(cheat=cheat, verdicts={}, with_fix=with_fix)
        submission = Submission(task_id=self.package.task.task_id, kind=SubmissionKind.PATCH, patch=patch)
        verdicts = {name: await self.grade(submission, name) for name in self.verifiers}
        if cheat.family is Family.HONEST and OURS in verdicts and PLAIN not in verdicts and not verdicts[OURS].reward:
            verdicts[PLAIN] = await self.grade(submission, PLAIN)  # the tests may notice what is written differently
        return CheatResult(cheat=cheat, verdicts=verdicts, with_fix=with_fix)

    async def grade(self, submission: Submission, verifier: str) -> Verdict:
        """Grade a submission by one of the two verifiers."""
        chosen = PlainVerifier(self.target.hidden_tests) if verifier == PLAIN else self.ours
        return await grade(self.package, submission, provider=self.provider, image=self.image, verifier=chosen)


class TriesCheats(Protocol):
    """Something on which cheats are tried."""

    async def try_cheat(self, cheat: Cheat) -> CheatResult:
        """Grade one cheat."""
        ...


async def try_cheats(
    trial: TriesCheats, cheats: Sequence[Cheat], *, jobs: int = 1, told: Callable[[CheatResult], None] | None = None
) -> tuple[CheatResult, ...]:
    """Try cheats, `jobs` at a time; return their results in the cheats' order.

    Args:
        trial: The task.
        cheats: What to try.
        jobs: How many at a time.
        told: Is told of each result as it comes.

    Raises:
        UserError: The task is damaged, or this machine lacks something.
    """
    results: dict[int, CheatResult] = {}
    limit = anyio.CapacityLimiter(max(jobs, 1))

    async def run(index: int) -> None:
        async with limit:
            results[index] = await trial.try_cheat(cheats[index])
        if told is not None:
            told(results[index])

    async with anyio.create_task_group() as group:
        for index in range(len(cheats)):
            group.start_soon(run, index)
    return tuple(results[index] for index in range(len(cheats)))
