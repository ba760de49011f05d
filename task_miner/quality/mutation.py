"""The mutation score: how many small wrong changes of the fix's own lines the tests notice."""

from collections.abc import Sequence
from dataclasses import dataclass

import anyio
from envfarm_verifiers.patch_application import apply_patch
from envfarm_verifiers.test_run import place_reference, trusted_folder

from envfarm.records.image import Image
from envfarm.records.task import Environment, MutationScore, TestPlan
from envfarm.sandbox.contract import WORKSPACE, LeaseRequest, SandboxProvider
from task_miner.languages.contract import Language, Mutant, Selection

_MOST_SURVIVORS = 20


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
        boxes: Bounds the boxes that run at one time.
    """

    provider: SandboxProvider
    image: Image
    language: Language
    environment: Environment
    plan: TestPlan
    reference_archive: bytes
    fix_patch: bytes
    mutants: Sequence[Mutant]
    boxes: anyio.CapacityLimiter


async def score_mutants(request: MutationRequest) -> MutationScore:
    """Run the deciding tests against each mutant; a mutant is killed when one of them does not pass.

    Raises:
        BoundaryError: A box could not be had.
    """
    survivors = [
        f"{mutant.path}:{mutant.line}: {mutant.operator}"
        for mutant in request.mutants
        if not await _is_killed(request, mutant)
    ]
    tried = len(request.mutants)
    return MutationScore(mutants=tried, killed=tried - len(survivors), survivors=tuple(survivors[:_MOST_SURVIVORS]))


async def _is_killed(request: MutationRequest, mutant: Mutant) -> bool:
    wanted = request.plan.fail_to_pass
    lease = LeaseRequest(image=request.image, folders=(trusted_folder(),), labels={"purpose": "mutant"})
    async with request.boxes, request.provider.lease(lease) as sandbox:
        await apply_patch(sandbox, request.fix_patch)
        await sandbox.write_file(WORKSPACE / mutant.path, mutant.content)
        await place_reference(
            sandbox,
            request.reference_archive,
            protected=request.plan.protected,
            removed_paths=request.plan.removed_paths,
        )
        selection = Selection(only_ids=wanted, stop_ids=wanted)
        run = await request.language.run_tests(sandbox, request.plan, request.environment, selection)
    return not run.report.session_ended or any(run.report.outcomes.get(name) != "passed" for name in wanted)
