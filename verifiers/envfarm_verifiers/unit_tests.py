"""The verifier `unit_tests`: one fresh box, the submission's own part, the hidden tests, one run, one judgement.

The order is the protection: the diff is applied by git before anything of it can run, then the protected files are made
what they have to be, and only then does a process start that imports the submission. What leaves the box is the report
down its own descriptor; nothing that lies in a file or is printed counts.

Not covered: code that fights the test process from inside it. `checks` is where layers against that are added.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from envfarm.errors import Attribution, VerifierError
from envfarm.grading.contract import Judgement, VerifierInfo, VerifyRequest
from envfarm.grading.submission_patch import plan_submission
from envfarm.records.task import REFERENCE_ARCHIVE, Task
from envfarm.sandbox.contract import LeaseRequest, Network
from envfarm_verifiers.checks import RunEvidence, judge
from envfarm_verifiers.patch_application import apply_patch
from envfarm_verifiers.test_command import TestCommand
from envfarm_verifiers.test_run import place_reference, run_tests, trusted_folder

_CONFIG_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "stop_at_first_failure": {"type": "boolean"},
        "run_timeout_seconds": {"type": "number", "exclusiveMinimum": 0},
    },
}
_OUTPUT_TAIL_BYTES = 65536


class UnitTestsVerifier:
    """Scores 1.0 when every test that has to pass passes in a whole and honest report, else 0.0."""

    @property
    def info(self) -> VerifierInfo:
        """What this verifier declares of itself."""
        return VerifierInfo(
            name="unit_tests",
            version="1",
            needs=frozenset({"sandbox"}),
            config_schema=_CONFIG_SCHEMA,
            budget_seconds=900.0,
            deterministic=True,
        )

    async def verify(self, request: VerifyRequest) -> Judgement:
        """Judge one submission.

        Raises:
            BoundaryError: The box is lost or cannot be made, the hidden tests cannot be placed, git is missing.
        """
        tests = request.package.task.tests
        plan = plan_submission(request.submission.patch, tests.protected)
        evidence = RunEvidence(tests=tests, plan=plan)
        if not tests.fail_to_pass:
            message = "the task names no test that its fix has to mend"
            raise VerifierError(message, attribution=Attribution.TASK)
        if plan.refusal is None:
            evidence = await _run(request, evidence)
        reward, components = judge(evidence)
        return Judgement(reward=reward, components=components, evidence=_blobs(evidence))


async def _run(request: VerifyRequest, evidence: RunEvidence) -> RunEvidence:
    task = request.package.task
    reference = request.package.files.get(REFERENCE_ARCHIVE)
    if reference is None:
        message = f"{REFERENCE_ARCHIVE}: the task has no hidden tests"
        raise VerifierError(message, attribution=Attribution.TASK)
    lease = LeaseRequest(
        image=request.image, folders=(trusted_folder(),), network=Network.NONE, labels={"task": task.task_id}
    )
    async with request.lease(lease) as sandbox:
        applied = await apply_patch(sandbox, evidence.plan.kept_patch)
        if not applied.applied:
            return RunEvidence(tests=evidence.tests, plan=evidence.plan, applied=applied)
        placed = await place_reference(
            sandbox, reference, protected=task.tests.protected, removed_paths=task.tests.removed_paths
        )
        run = await run_tests(sandbox, _command(task, request.config)) if placed else None
    return RunEvidence(tests=evidence.tests, plan=evidence.plan, applied=applied, placed=placed, run=run)


def _command(task: Task, config: Mapping[str, Any]) -> TestCommand:
    tests = task.tests
    return TestCommand(
        paths=tests.paths,
        plugins=task.environment.test_plugins,
        options=tests.options,
        test_timeout_seconds=tests.test_timeout_seconds,
        run_timeout_seconds=float(config.get("run_timeout_seconds", tests.run_timeout_seconds)),
        stop_ids=(*tests.fail_to_pass, *tests.pass_to_pass) if config.get("stop_at_first_failure") else (),
        environment_variables=task.environment.environment_variables,
    )


def _blobs(evidence: RunEvidence) -> dict[str, bytes]:
    if evidence.run is None:
        return {}
    result = evidence.run.result
    return {
        "report.json": msgspec.json.encode(evidence.run.report),
        "stdout.txt": result.stdout[-_OUTPUT_TAIL_BYTES:],
        "stderr.txt": result.stderr[-_OUTPUT_TAIL_BYTES:],
    }
