"""Runs a candidate's Python tests in a box: the miner's side of the runner that the verifier uses."""

import re
from pathlib import PurePosixPath

from envfarm.records.task import Environment, TestPlan
from envfarm.sandbox.contract import Sandbox
from envfarm_verifiers.test_command import TestCommand
from envfarm_verifiers.test_run import TestRun, run_tests
from task_miner.languages.contract import Selection
from task_miner.unit import Candidate

_TEST_FILE = re.compile(r"test_.*\.py|.*_test\.py|tests?\.py")


def is_test_file(path: str) -> bool:
    """Say whether pytest would collect the file by its name."""
    return _TEST_FILE.fullmatch(PurePosixPath(path).name) is not None


def runnable_tests(paths: frozenset[str], candidate: Candidate) -> tuple[str, ...]:
    """Return the test files to run for a candidate: those it changes; else all beside the data that it changes."""
    kept = {change.path for change in candidate.tests if change.new_blob is not None}
    changed = {path for path in kept if is_test_file(path)}
    data = {path for path in kept - changed if PurePosixPath(path).suffix != ".py" or path.endswith("conftest.py")}
    beside = {PurePosixPath(path).parts[0] for path in data if "/" in path}
    near = {path for path in paths if is_test_file(path) and PurePosixPath(path).parts[0] in beside}
    return tuple(sorted(changed or near or {path for path in paths if is_test_file(path)}))


async def run_python_tests(sandbox: Sandbox, plan: TestPlan, environment: Environment, selection: Selection) -> TestRun:
    """Run the plan's paths once, as the selection says."""
    return await run_tests(
        sandbox,
        TestCommand(
            paths=plan.paths,
            plugins=environment.test_plugins,
            options=plan.options,
            test_timeout_seconds=plan.test_timeout_seconds,
            run_timeout_seconds=plan.run_timeout_seconds,
            order_seed=selection.order_seed,
            only_ids=selection.only_ids,
            stop_ids=selection.stop_ids,
            environment_variables=environment.environment_variables,
        ),
        selection.placement,
    )
