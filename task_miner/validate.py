"""Runs a candidate's tests on the base and on the fix, often enough to know what is stable.

Three stages: the base with its old tests, the base with the new tests, the fix with the new tests. Every run has a
fresh box; the last run of the two sides is shuffled and has another hash seed. Runs that could only confirm that a
candidate fell are not made: the fixed side goes first, then one run of the base.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio
import msgspec
from envfarm_verifiers.patch_application import apply_patch
from envfarm_verifiers.test_run import TestRun, place_reference, trusted_folder

from envfarm.errors import VerifierError
from envfarm.records.image import Image
from envfarm.records.task import Environment, StageRun, TestPlan
from envfarm.sandbox.contract import LeaseRequest, Sandbox, SandboxProvider
from task_miner.classify import Classification, classify, differs, judge_first_after
from task_miner.languages.contract import ChangedTests, Language, Selection
from task_miner.reasons import ReasonCode

OLD, BEFORE, AFTER = "base_old_tests", "base_new_tests", "fixed_new_tests"
_ORDER_SEED = 20_240_229


@dataclass(frozen=True, kw_only=True)
class ValidateRequest:
    """What to validate.

    Attributes:
        provider: Leases the boxes.
        image: Its workspace is at the base.
        language: Runs the tests.
        environment: The installed environment.
        plan: Test files and limits; its lists are still empty.
        old_paths: Those of the plan's files that the base has.
        reference_archive: Protected files as they have to be.
        fix_patch: The true fix.
        changed: What the syntax trees say of each test file.
        runs: Runs a side, at least 3.
        boxes: Bounds the boxes that run at one time.
    """

    provider: SandboxProvider
    image: Image
    language: Language
    environment: Environment
    plan: TestPlan
    old_paths: tuple[str, ...]
    reference_archive: bytes = field(repr=False)
    fix_patch: bytes = field(repr=False)
    changed: Mapping[str, ChangedTests]
    runs: int
    boxes: anyio.CapacityLimiter


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What the runs came to.

    Attributes:
        runs: All runs that were made.
        classification: The classes and the reason.
        messages: How tests failed on the base, by id: for statements.
        log: What a person wants to see.
    """

    runs: tuple[StageRun, ...]
    classification: Classification
    messages: dict[str, str]
    log: str


class _Runs:
    def __init__(self, request: ValidateRequest) -> None:
        self.request = request
        self.made: list[StageRun] = []
        self.messages: dict[str, str] = {}
        self.log: list[str] = []

    async def one(self, stage: str, *, shuffled: bool = False) -> StageRun:
        request = self.request
        lease = LeaseRequest(image=request.image, folders=(trusted_folder(),), labels={"purpose": stage})
        async with request.boxes, request.provider.lease(lease) as sandbox:
            plan = request.plan
            if stage == OLD:
                plan = msgspec.structs.replace(plan, paths=request.old_paths)
            else:
                await self._place(sandbox, fixed=stage == AFTER)
            run = await request.language.run_tests(
                sandbox,
                plan,
                self._environment(shuffled=shuffled),
                Selection(order_seed=_ORDER_SEED if shuffled else None),
            )
        return self._note(stage, run, shuffled=shuffled)

    async def _place(self, sandbox: Sandbox, *, fixed: bool) -> None:
        request = self.request
        if fixed:
            applied = await apply_patch(sandbox, request.fix_patch)
            if not applied.applied:
                message = f"the true fix does not apply to the base: {applied.message}"
                raise VerifierError(message)
        placed = await place_reference(
            sandbox,
            request.reference_archive,
            protected=request.plan.protected,
            removed_paths=request.plan.removed_paths,
        )
        if not placed:
            message = "no room for the hidden tests in the box"
            raise VerifierError(message)

    def _environment(self, *, shuffled: bool) -> Environment:
        if not shuffled:
            return self.request.environment
        variables = {**self.request.environment.environment_variables, "PYTHONHASHSEED": "1"}
        return msgspec.structs.replace(self.request.environment, environment_variables=variables)

    def _note(self, stage: str, run: TestRun, *, shuffled: bool) -> StageRun:
        report, result = run.report, run.result
        noted = StageRun(
            stage=stage,
            order_seed=_ORDER_SEED if shuffled else None,
            outcomes={name: str(outcome) for name, outcome in sorted(report.outcomes.items())},
            collection_errors=tuple(sorted(report.collection_errors)),
            session_ended=report.session_ended,
            timed_out=result.timed_out,
        )
        self.made.append(noted)
        counts: dict[str, int] = {}
        for outcome in report.outcomes.values():
            counts[outcome] = counts.get(outcome, 0) + 1
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "no test"
        self.log.append(f"{stage}{' shuffled' if shuffled else ''}: {told} in {result.wall_seconds:.2f} s")
        self.log += [f"  cannot be collected: {path}: {text[-600:]}" for path, text in report.collection_errors.items()]
        self.log += [f"  {problem}" for problem in report.problems]
        if not report.session_ended:
            self.log.append(f"  no end of session; standard error: {result.stderr[-1500:].decode('utf-8', 'replace')}")
        if stage == BEFORE:
            self.messages |= {name: detail.message for name, detail in report.details.items()}
            self.messages |= report.collection_errors
        if stage == AFTER and not shuffled:
            failing = [(name, detail) for name, detail in report.details.items() if report.outcomes[name] != "skipped"]
            self.log += [f"  {name}: {detail.message[-300:]}" for name, detail in failing[:5]]
        return noted


async def validate(request: ValidateRequest) -> Validation:
    """Make the runs and class the tests.

    Raises:
        BoundaryError: A box could not be had, or the fix does not apply.
    """
    runs = _Runs(request)
    after = [await runs.one(AFTER)]
    reason, detail = judge_first_after(after[0])
    if reason is not ReasonCode.OK:
        return _ended(runs, Classification(classes={}, reason=reason, detail=detail))
    before = [await runs.one(BEFORE)]
    if not differs(before[0], after[0]):
        found = classify(None, before, after, request.changed)
        return _ended(runs, found)
    old = await runs.one(OLD) if request.old_paths else None
    for number in range(1, request.runs):
        shuffled = number == request.runs - 1
        after.append(await runs.one(AFTER, shuffled=shuffled))
        before.append(await runs.one(BEFORE, shuffled=shuffled))
    return _ended(runs, classify(old, before, after, request.changed))


def _ended(runs: _Runs, found: Classification) -> Validation:
    counts = ", ".join(f"{count} {name}" for name, count in found.counts().items())
    log = "\n".join([*runs.log, f"classes: {counts}", f"{found.reason}: {found.detail}"])
    return Validation(runs=tuple(runs.made), classification=found, messages=runs.messages, log=log)
