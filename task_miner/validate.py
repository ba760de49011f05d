"""validate(): runs a candidate's tests before and after its fix, and says which of them the fix mends.

Three stages: the base with its old tests once, the base with the new tests and the fix with the new tests `runs` times
each, the last of them in random order with another hash seed. The run that ends most candidates comes first: the fixed
side's, then the base's; only a candidate that shows a difference pays for the rest. Where a test was not steady, the
fixed side is run as often again, so that fewer tests of its kind are required to pass for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import anyio
import msgspec

from envfarm.grading.submission_patch import plan_submission
from envfarm.records.image import Image
from envfarm.records.task import Environment, StageRun, TestClass, TestPlan
from envfarm.sandbox.contract import SandboxProvider
from task_miner.classify import Classification, classify, differs, judge_first_after
from task_miner.languages.contract import ChangedTests, Language
from task_miner.reasons import ReasonCode
from task_miner.stage_runs import FIXED, NEW_TESTS, OLD_TESTS, Bench, StageResult, run_stage
from task_miner.together import run_together

LEAST_RUNS = 3
_UNSTEADY = frozenset({TestClass.FLAKY, TestClass.ORDER_DEPENDENT})
"""Where one test is not steady, others of its kind may have passed by chance: under load, or by the clock."""


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
        fix_patch: The true fix; what of it no submission could change is left out.
        changed: What the syntax trees say of each test file, by path.
        runs: Runs a side, at least `LEAST_RUNS`.
        boxes: Bounds the boxes that run at one time, with those of other candidates; the caller holds none of it.
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
    runs: int = LEAST_RUNS
    boxes: anyio.CapacityLimiter

    def bench(self, fix_patch: bytes) -> Bench:
        """Return what every run needs."""
        return Bench(
            provider=self.provider,
            image=self.image,
            language=self.language,
            environment=self.environment,
            plan=self.plan,
            reference_archive=self.reference_archive,
            fix_patch=fix_patch,
            boxes=self.boxes,
        )


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What the runs came to.

    Attributes:
        runs: All runs that were made.
        classification: The classes and the reason.
        messages: By id, or by path of a file that was not collected: how it failed on the base, for statements.
        log: What a person wants to see.
        fixed_seconds: Wall-clock seconds of the first run of the fixed side.
    """

    runs: tuple[StageRun, ...]
    classification: Classification
    messages: dict[str, str]
    log: str
    fixed_seconds: float = 0.0


async def validate(request: ValidateRequest) -> Validation:
    """Make the runs and class the tests.

    Nothing of the boxes is left when this returns, raises or is cancelled.

    Raises:
        BoundaryError: The farm failed; the candidate may be tried again.
        ValueError: Fewer runs are asked for than can tell a flaky test.
    """
    if request.runs < LEAST_RUNS:
        message = f"{request.runs} runs cannot tell a flaky test: ask for {LEAST_RUNS} or more"
        raise ValueError(message)
    planned = plan_submission(request.fix_patch, request.plan.protected)
    if planned.refusal is not None or not planned.kept_patch:
        told = planned.refusal or "all that it changes belongs to the grader"
        return _fallen([], ReasonCode.UNSUPPORTED_CHANGE, f"no submission could be the true fix: {told}")
    bench = request.bench(planned.kept_patch)

    first_after = await run_stage(bench, FIXED)
    reason, detail = judge_first_after(first_after.run)
    if reason is not ReasonCode.OK:
        return _fallen([first_after], reason, detail)

    expected = frozenset(first_after.run.outcomes)
    base = bench.limited_by(first_after.wall_seconds)
    first_before = await run_stage(base, NEW_TESTS, expected=expected)
    if not differs(first_before.run, first_after.run):
        found = classify(None, [first_before.run], [first_after.run], request.changed)
        return _ended([first_after, first_before], found)

    old, before, after = await _run_rest(bench, base, request, expected)

    def judged() -> Classification:
        return classify(
            old[0].run if old else None,
            [result.run for result in (first_before, *before)],
            [result.run for result in (first_after, *after)],
            request.changed,
        )

    found = judged()
    if found.reason is ReasonCode.OK and found.ids_of(_UNSTEADY):
        more = [partial(run_stage, bench, FIXED) for _ in range(request.runs)]
        after = [*await run_together(more), *after]
        found = judged()
    return _ended([first_after, first_before, *old, *before, *after], found)


async def _run_rest(
    bench: Bench, base: Bench, request: ValidateRequest, expected: frozenset[str]
) -> tuple[list[StageResult], list[StageResult], list[StageResult]]:
    """Run what is left of the three stages, as many boxes at once as there is room for; each side in order."""
    old_plan = msgspec.structs.replace(base.plan, paths=request.old_paths)
    olds = [partial(run_stage, replace(base, plan=old_plan), OLD_TESTS, expected=expected)] if request.old_paths else []
    befores, afters = [], []
    for number in range(1, request.runs):
        shuffled = number == request.runs - 1
        befores.append(partial(run_stage, base, NEW_TESTS, shuffled=shuffled, expected=expected))
        afters.append(partial(run_stage, bench, FIXED, shuffled=shuffled))
    done = await run_together([*olds, *befores, *afters])
    end = len(olds) + len(befores)
    return done[: len(olds)], done[len(olds) : end], done[end:]


def _fallen(results: Sequence[StageResult], reason: ReasonCode, detail: str) -> Validation:
    return _ended(results, Classification(classes={}, reason=reason, detail=detail))


def _ended(results: Sequence[StageResult], found: Classification) -> Validation:
    """Return what the runs came to; the first of them is the fixed side's."""
    counts = ", ".join(f"{count} {name}" for name, count in found.counts().items())
    end = [f"classes: {counts}" if counts else "no class was given", f"{found.reason}: {found.detail}"]
    return Validation(
        runs=tuple(result.run for result in results),
        classification=found,
        messages=_steady_messages(results),
        log="\n".join([*(_told(result) for result in results), *end]),
        fixed_seconds=results[0].wall_seconds if results else 0.0,
    )


def _steady_messages(results: Sequence[StageResult]) -> dict[str, str]:
    """Return how tests fail on the base, without lines that only one of two runs in file order said.

    What differs (times, addresses, the order of sets) would make another statement of every mining, and helps nobody.
    """
    said = [run.messages for run in results if run.run.stage == NEW_TESTS and run.run.order_seed is None]
    if not said:
        return {}
    others = [{key: frozenset(text.splitlines()) for key, text in more.items()} for more in said[1:]]
    return {
        key: "\n".join(line for line in text.splitlines() if all(line in other.get(key, ()) for other in others))
        for key, text in said[0].items()
    }


def _told(result: StageResult) -> str:
    """Return one run as a paragraph of the log."""
    run = result.run
    order = "file order" if run.order_seed is None else f"order seed {run.order_seed}"
    end = "ended" if run.session_ended else "timed out" if run.timed_out else "broke off"
    lines = [f"== {run.stage}, {order}: {end} after {result.wall_seconds:.2f} s; {_counts(run)}"]
    lines += [f"problem: {problem}" for problem in result.problems]
    lines += [f"{path} was not collected: {result.messages.get(path, '')[-600:]}" for path in run.collection_errors]
    bad = [name for name, outcome in run.outcomes.items() if outcome not in {"passed", "skipped", "xfailed"}]
    lines += [f"{name} {run.outcomes[name]}: {result.messages.get(name, '')[-400:]}" for name in bad[:5]]
    if not run.session_ended or not run.outcomes:
        lines.append(result.output[-2000:])
    return "\n".join([*lines, ""])


def _counts(run: StageRun) -> str:
    kinds = sorted(set(run.outcomes.values()))
    return ", ".join(f"{sum(found == kind for found in run.outcomes.values())} {kind}" for kind in kinds) or "no test"
