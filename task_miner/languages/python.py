"""Python, as the miner knows it."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from envfarm.images import EnvironmentStore
from envfarm.records.task import Environment, TestPlan
from envfarm.sandbox.contract import Sandbox, SandboxProvider
from envfarm_verifiers.test_run import TestRun
from task_miner.environment.runner_options import runner_options
from task_miner.languages.contract import EnvironmentRequest, PreparedEnvironment, Selection
from task_miner.languages.python_code import PythonCode
from task_miner.languages.python_environment import PythonEnvironments, describes_project
from task_miner.languages.python_paths import PythonPaths
from task_miner.languages.python_tests import run_python_tests, runnable_tests
from task_miner.unit import Candidate


class PythonLanguage:
    """Paths, code, environments and tests of Python, for one repository."""

    def __init__(self, *, provider: SandboxProvider, cache_folder: Path, cache_domain: str) -> None:
        """Take where boxes come from, and the caches' places.

        Args:
            provider: Leases boxes.
            cache_folder: envfarm's cache on this machine.
            cache_domain: Name of this repository in it.
        """
        store = EnvironmentStore(cache_folder, provider)
        self._environments = PythonEnvironments(provider, store, cache_folder=cache_folder, cache_domain=cache_domain)
        self.paths = PythonPaths()
        self.code = PythonCode()

    @property
    def name(self) -> str:
        """The language's name."""
        return "python"

    def runnable_tests(self, paths: frozenset[str], candidate: Candidate) -> tuple[str, ...]:
        """Return the test files to run for a candidate."""
        return runnable_tests(paths, candidate)

    def describes_project(self, path: PurePosixPath) -> bool:
        """Say whether the file tells how the project is built, what it needs, or how it is tested."""
        return describes_project(path)

    def runner_options(self, project_files: Mapping[str, bytes]) -> tuple[str, ...]:
        """Return options of the project's pytest configuration that every run needs."""
        return runner_options(project_files)

    async def prepare_environment(self, request: EnvironmentRequest) -> PreparedEnvironment:
        """Lock, install and build."""
        return await self._environments.prepare(request)

    async def run_tests(
        self, sandbox: Sandbox, plan: TestPlan, environment: Environment, selection: Selection
    ) -> TestRun:
        """Run the plan's paths once."""
        return await run_python_tests(sandbox, plan, environment, selection)
