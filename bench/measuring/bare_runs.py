"""The floor of a grading: the same tests in the same kind of box, run by pytest itself, with nothing watching.

Options of the project and plug-ins that nobody named are left out, as they are in a grading: no coverage, no output.
"""

from collections.abc import Sequence

from envfarm.errors import VerifierError
from envfarm.grading.contract import Judgement, VerifierInfo, VerifyRequest
from envfarm.records.task import REFERENCE_ARCHIVE
from envfarm.sandbox.contract import ENVIRONMENT, LeaseRequest, Network
from envfarm_verifiers.patch_application import apply_patch
from envfarm_verifiers.test_command import PINNED_VARIABLES
from envfarm_verifiers.test_files import Placement
from envfarm_verifiers.test_run import place_reference, trusted_folder

_ENDED = frozenset({0, 1})
"""pytest's statuses of a session with an outcome; tests that pass on neither side make it 1."""


class BareVerifier:
    """Scores 1.0 when pytest's exit code is 0: what a run costs, and nothing that a reward could come from."""

    def __init__(self, names: Sequence[str]) -> None:
        """Take what pytest is given: files, or node ids."""
        self._names = tuple(names)

    @property
    def info(self) -> VerifierInfo:
        """What this verifier declares of itself."""
        return VerifierInfo(
            name="bare",
            version="1",
            needs=frozenset({"sandbox"}),
            config_schema={"type": "object"},
            budget_seconds=900.0,
            deterministic=False,
        )

    async def verify(self, request: VerifyRequest) -> Judgement:
        """Run the tests once.

        Raises:
            BoundaryError: The box is lost or cannot be made, or the tests cannot be placed.
        """
        task = request.package.task
        lease = LeaseRequest(
            image=request.image, folders=(trusted_folder(),), network=Network.NONE, labels={"task": task.task_id}
        )
        async with request.lease(lease) as box:
            await apply_patch(box, request.submission.patch)
            archive, tests = request.package.files[REFERENCE_ARCHIVE], task.tests
            placement = Placement(archive=archive, protected=tests.protected, removed_paths=tests.removed_paths)
            await place_reference(box, placement)
            plugins = [word for name in task.environment.test_plugins for word in ("-p", name)]
            options = ("-q", "-o", "addopts=", "-p", "no:cacheprovider", *plugins, *task.tests.options)
            result = await box.exec(
                (f"{ENVIRONMENT}/bin/python", "-m", "pytest", *options, *self._names),
                env={
                    **PINNED_VARIABLES,
                    **task.environment.environment_variables,
                    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                },
                timeout_seconds=task.tests.run_timeout_seconds,
            )
        if result.exit_code not in _ENDED:
            message = f"the bare run did not end as runs of tests do: {result.stderr[-500:].decode('utf-8', 'replace')}"
            raise VerifierError(message)
        return Judgement(reward=float(result.exit_code == 0), components=())
