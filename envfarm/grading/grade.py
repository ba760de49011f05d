"""grade(): one submission to one task becomes one verdict. The only place where a failure becomes data.

A BoundaryError, and whatever else a verifier raises, becomes UNSCORED; never a reward of 0. A UserError (a damaged
task, a missing program, an unknown verifier) is raised: no verdict could say anything of the submission.
"""

import hashlib
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import msgspec

from envfarm.errors import (
    Attribution,
    BoundaryError,
    SandboxLostError,
    TaskError,
    UnknownPluginError,
    UserError,
    VerifierError,
)
from envfarm.grading.config_check import find_config_problem
from envfarm.grading.contract import Judgement, Verifier, VerifyRequest
from envfarm.grading.finished_runs import FinishedRuns, RunsInFolder, RunsInMemory
from envfarm.grading.level import STANDARD, GradingLevel
from envfarm.plugins import VERIFIERS, load_plugin
from envfarm.records.image import Image
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import FIX_PATCH, TASK_FILE, TaskPackage
from envfarm.records.verdict import Component, Failure, Outcome, Provenance, Verdict
from envfarm.sandbox.contract import LeaseRequest, Sandbox, SandboxProvider

_SPARE_SECONDS = 300.0
"""What a budget has beyond the tests' own limit, for the box and the placing of files: a guess."""
_TOLD_CHARACTERS = 2000


@dataclass(frozen=True, kw_only=True)
class GradingOptions:
    """How a grading is done.

    Attributes:
        budget_seconds: Wall-clock bound for everything; None for what verifier and task need, with room to spare. A
            budget below the tests' own time limit can make a hanging submission UNSCORED.
        retries: How often a lost box is replaced by a fresh one.
        level: How much is done against code that fights its grading.
        resume_folder: Finished runs are kept below it until the submission is scored, so that a grading that was
            killed goes on from them; None keeps them for retries only.
    """

    budget_seconds: float | None = None
    retries: int = 1
    level: GradingLevel = STANDARD
    resume_folder: Path | None = None


async def grade(
    package: TaskPackage,
    submission: Submission,
    *,
    provider: SandboxProvider,
    image: Image,
    verifier: Verifier | None = None,
    cancel: anyio.Event | None = None,
    options: GradingOptions | None = None,
) -> Verdict:
    """Judge a submission in fresh boxes; nothing of them is left when this returns, raises or is cancelled.

    Args:
        package: The task with its hidden files.
        submission: What is judged; the patch of an oracle is taken from the task.
        provider: Leases the boxes.
        image: The task's image on this machine.
        verifier: Judges; by default the one that the task names, found by entry point.
        cancel: Once set, the grading ends with a verdict of CANCELLED. Cancelling the caller's own scope raises
            instead, as everywhere.
        options: Budget, retries and level; by default those of `GradingOptions`.

    Returns:
        SCORED with a reward; UNSCORED with a failure that says whose fault it is; or CANCELLED.

    Raises:
        TaskError: The task's configuration of its verifier is wrong, or it has no true fix for an oracle.
        UnknownPluginError: The task names a verifier that is not installed.
        MissingToolError: This machine lacks something that the provider needs.
    """
    judge = verifier if verifier is not None else load_verifier(package.task.verifier)
    submission = fill_oracle(package, submission)
    problem = find_config_problem(package.task.verifier_config, judge.info.config_schema)
    if problem is not None:
        message = f"{TASK_FILE}: {problem}"
        raise TaskError(message)
    options = options or GradingOptions()
    budget_seconds = _budget(package, judge, options)
    grading = _Grading(package=package, submission=submission, image=image, provider=provider, level=options.level)
    if options.resume_folder is not None:
        told = [_digest_of(package), repr(grading.provenance(judge)), repr(options.level)]
        grading.finished = RunsInFolder.of(options.resume_folder, told)
    async with anyio.create_task_group() as group:
        if cancel is not None:
            group.start_soon(_cancel_when, cancel, group.cancel_scope)
        with anyio.move_on_after(budget_seconds) as budget:
            await grading.run(judge, budget_seconds, max(options.retries, 0))
        if budget.cancelled_caught:
            message = f"the grading was not done within its budget of {budget_seconds:g} s"
            grading.fail("budget_exceeded", Attribution.FARM, message, retryable=True)
        group.cancel_scope.cancel()
    if grading.user_error is not None:
        raise grading.user_error
    verdict = grading.verdict(judge)
    if verdict.outcome is Outcome.SCORED:
        grading.finished.forget()
    return verdict


def load_verifier(name: str) -> Verifier:
    """Return a verifier by its entry-point name.

    Raises:
        UnknownPluginError: No installed verifier has the name, or what has it is no verifier.
    """
    made = load_plugin(VERIFIERS, name)
    found = made() if callable(made) else made
    if not isinstance(found, Verifier):
        message = (
            f"the plug-in {name!r} among verifiers is none, without `info` and `verify`: mend the package it is from"
        )
        raise UnknownPluginError(message)
    return found


def fill_oracle(package: TaskPackage, submission: Submission) -> Submission:
    """Return the submission with its patch: an oracle's is the task's own fix.

    Raises:
        TaskError: The task carries no fix.
    """
    if submission.kind is not SubmissionKind.ORACLE:
        return submission
    if FIX_PATCH not in package.files:
        message = f"{FIX_PATCH}: the task carries no true fix, so there is no oracle to grade"
        raise TaskError(message)
    return msgspec.structs.replace(submission, patch=package.files[FIX_PATCH])


def make_unscored(package: TaskPackage, error: BoundaryError, *, phase: str) -> Verdict:
    """Return the verdict of a failure before there was anything to grade in, such as an image that cannot be made."""
    return Verdict(task_id=package.task.task_id, outcome=Outcome.UNSCORED, failure=failure_of(error, phase=phase))


def failure_of(error: BoundaryError, *, phase: str) -> Failure:
    """Return a failure as data: image, start, apply, verify or judge is the phase in which it came up."""
    return Failure(
        attribution=error.attribution,
        code=error.code,
        message=str(error)[:_TOLD_CHARACTERS],
        retryable=error.retryable,
        phase=phase,
    )


def _digest_of(package: TaskPackage) -> str:
    """Return what tells a package from all others: one in memory may have no digest, or other limits."""
    digest = hashlib.sha256(msgspec.json.encode(package.task))
    for path in sorted(package.files):
        digest.update(f"\0{path}\0{hashlib.sha256(package.files[path]).hexdigest()}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _budget(package: TaskPackage, judge: Verifier, options: GradingOptions) -> float:
    if options.budget_seconds is not None:
        return options.budget_seconds
    runs = 2 + options.level.mixed_runs
    return max(judge.info.budget_seconds, package.task.tests.run_timeout_seconds * runs + _SPARE_SECONDS)


async def _cancel_when(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


@dataclass(kw_only=True)
class _Grading:
    """One grading in progress."""

    package: TaskPackage
    submission: Submission
    image: Image
    provider: SandboxProvider
    level: GradingLevel
    finished: FinishedRuns = field(default_factory=RunsInMemory)
    phase: str = "verify"
    seconds: dict[str, float] = field(default_factory=lambda: {"start": 0.0, "verify": 0.0})
    judgement: Judgement | None = None
    failure: Failure | None = None
    user_error: UserError | None = None

    async def run(self, verifier: Verifier, budget_seconds: float, retries: int) -> None:
        """Fill in a judgement, a failure or a user error; none of them when cancelled."""
        request = VerifyRequest(
            package=self.package,
            submission=self.submission,
            image=self.image,
            lease=self.lease,
            config=self.package.task.verifier_config,
            budget_seconds=budget_seconds,
            level=self.level,
            finished=self.finished,
        )
        started = time.monotonic()
        for attempt in range(retries + 1):
            error = await self._attempt(verifier, request)
            if not isinstance(error, SandboxLostError) or attempt == retries:
                break
        self.seconds["verify"] = time.monotonic() - started - self.seconds["start"]
        if isinstance(error, UserError):
            self.user_error = error
        elif isinstance(error, BoundaryError):
            self.fail(error.code, error.attribution, str(error), retryable=error.retryable)
        elif error is not None:
            told = f"the verifier {verifier.info.name!r} raised {type(error).__name__}: {error}"
            self.fail(VerifierError.code, VerifierError.attribution, told, retryable=VerifierError.retryable)

    async def _attempt(self, verifier: Verifier, request: VerifyRequest) -> BaseException | None:
        """Let the verifier judge once; return what it raised."""
        self.phase = "verify"
        try:
            judgement = await verifier.verify(request)
            self.phase = "judge"
            self.judgement = _checked(judgement)
        except Exception as error:  # noqa: BLE001 -- here a failure becomes data
            return _root_error(error)
        return None

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Sandbox]:
        """Lease a box, noting that the time until it is there is not the verifier's."""
        self.phase = "start"
        started = time.monotonic()
        try:
            async with self.provider.lease(request) as sandbox:
                self.phase = "verify"
                self.seconds["start"] += time.monotonic() - started
                yield sandbox
        finally:
            if self.phase == "start":
                self.seconds["start"] += time.monotonic() - started

    def fail(self, code: str, attribution: Attribution, message: str, *, retryable: bool) -> None:
        """Note the failure that the verdict is made of."""
        self.failure = Failure(
            attribution=attribution,
            code=code,
            message=message[:_TOLD_CHARACTERS],
            retryable=retryable,
            phase=self.phase,
        )

    def verdict(self, verifier: Verifier) -> Verdict:
        """Return the verdict of what was filled in."""
        outcome = Outcome.CANCELLED
        reward: float | None = None
        components: tuple[Component, ...] = ()
        if self.failure is not None:
            outcome = Outcome.UNSCORED
        elif self.judgement is not None:
            outcome, reward, components = Outcome.SCORED, float(self.judgement.reward), self.judgement.components
        return Verdict(
            task_id=self.package.task.task_id,
            outcome=outcome,
            reward=reward,
            components=components,
            failure=self.failure,
            provenance=self.provenance(verifier),
            seconds={name: round(value, 4) for name, value in self.seconds.items()},
        )

    def provenance(self, verifier: Verifier) -> Provenance:
        """Return all that the verdict depends on."""
        return Provenance(
            task_digest=self.package.digest,
            submission_digest=f"sha256:{hashlib.sha256(self.submission.patch).hexdigest()}",
            verifier=verifier.info.name,
            verifier_version=verifier.info.version,
            image_id=self.image.image_id,
            level=self.level.name,
        )


def _checked(judgement: object) -> Judgement:
    """Return the judgement, if it is one that a verdict can be made of.

    Raises:
        VerifierError: It is not: no judgement, no number, or a number that is not finite.
    """
    if not isinstance(judgement, Judgement):
        message = f"the verifier answered with {type(judgement).__name__}, not with a Judgement"
        raise VerifierError(message)
    reward: object = judgement.reward
    if isinstance(reward, bool) or not isinstance(reward, int | float) or not math.isfinite(reward):
        message = f"the verifier's reward is {reward!r}: a reward is a finite number"
        raise VerifierError(message)
    return judgement


def _root_error(error: Exception) -> Exception:
    """Return the one error that task groups have wrapped; of several, the one that says whose fault it is."""
    while isinstance(error, ExceptionGroup):
        boundary = error.subgroup((BoundaryError, UserError))
        error = (boundary or error).exceptions[0]
    return error
