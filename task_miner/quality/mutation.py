"""The mutation score: how many small wrong changes of the fix's own lines the tests notice."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath

import anyio
import msgspec

from envfarm.grading.submission_patch import plan_submission
from envfarm.records.image import Image
from envfarm.records.task import Environment, MutationScore, TestPlan
from envfarm.records.test_report import TestOutcome
from envfarm.sandbox.contract import WORKSPACE, SandboxProvider
from task_miner.languages.contract import Language, Mutant, Selection
from task_miner.stage_runs import Bench
from task_miner.together import run_together

_MOST_SURVIVORS = 20
_LEAST_TEST_SECONDS = 4.0
"""A mutant that loops is killed by its first test that takes so long."""


@dataclass(frozen=True, kw_only=True)
class MutationRequest:
    """What to score.

    Attributes:
        provider: Leases the boxes.
        image: Its workspace is at the base.
        language: Runs the tests.
        environment: The installed environment.
        plan: The tests; only those that the fix makes pass are run.
        reference_archive: Protected files as they have to be.
        fix_patch: The true fix.
        mutants: What to try.
        boxes: Bounds the boxes that run at one time; the caller holds none of it.
        fixed_seconds: Wall-clock seconds of a run of the fixed side; what takes twenty times as long is killed.
    """

    provider: SandboxProvider
    image: Image
    language: Language
    environment: Environment
    plan: TestPlan
    reference_archive: bytes = field(repr=False)
    fix_patch: bytes = field(repr=False)
    mutants: Sequence[Mutant]
    boxes: anyio.CapacityLimiter
    fixed_seconds: float | None = None


async def score_mutants(request: MutationRequest) -> MutationScore:
    """Run the deciding tests against each mutant, each in a fresh box; it is killed when one of them does not pass.

    Raises:
        BoundaryError: A box could not be had, or the fix does not apply.
    """
    bench = _bench(request)
    killed = await run_together(partial(_is_killed, bench, mutant) for mutant in request.mutants)
    survivors = [
        f"{mutant.path}:{mutant.line}: {mutant.operator}"
        for mutant, dead in zip(request.mutants, killed, strict=True)
        if not dead
    ]
    return MutationScore(mutants=len(killed), killed=sum(killed), survivors=tuple(survivors[:_MOST_SURVIVORS]))


def _bench(request: MutationRequest) -> Bench:
    """Return a bench that runs only the files with deciding tests."""
    wanted = {name.split("::", maxsplit=1)[0] for name in request.plan.fail_to_pass}
    paths = tuple(path for path in request.plan.paths if path in wanted) or request.plan.paths
    bench = Bench(
        provider=request.provider,
        image=request.image,
        language=request.language,
        environment=request.environment,
        plan=msgspec.structs.replace(request.plan, paths=paths),
        reference_archive=request.reference_archive,
        fix_patch=plan_submission(request.fix_patch, request.plan.protected).kept_patch,
        boxes=request.boxes,
    )
    if request.fixed_seconds is None:
        return bench
    return bench.limited_by(request.fixed_seconds, least_test_seconds=_LEAST_TEST_SECONDS)


async def _is_killed(bench: Bench, mutant: Mutant) -> bool:
    wanted = bench.plan.fail_to_pass
    async with bench.lease("mutant") as sandbox:
        await bench.apply_fix(sandbox)
        await sandbox.write_file(WORKSPACE / PurePosixPath(mutant.path), mutant.content)
        run = await bench.run_tests(sandbox, Selection(only_ids=wanted, stop_ids=wanted))
    passed = all(run.report.outcomes.get(name) is TestOutcome.PASSED for name in wanted)
    return not run.report.session_ended or not passed
