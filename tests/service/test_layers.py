"""A calibrated task in real boxes: true fixes and honest variants score 1, what fights its grading scores 0 and why."""

import importlib.util
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from envfarm.errors import SandboxLostError
from envfarm.grading.grade import GradingOptions, grade
from envfarm.grading.level import FAST, STANDARD, STRICT, GradingLevel
from envfarm.records.trust import TwinKind
from envfarm.records.verdict import Outcome, Verdict
from envfarm.sandbox.contract import LeaseRequest, Sandbox, SandboxProvider
from envfarm.sandbox.local.provider import open_local_provider
from envfarm_verifiers.trust_file import render_trust

if TYPE_CHECKING:
    from tests.data.calibrated import CalibratedTask


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> "CalibratedTask":
    path = Path(__file__).parents[1] / "data" / "calibrated.py"
    spec = importlib.util.spec_from_file_location("calibrated_task_of_tests", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: CalibratedTask = module.make_calibrated_task(tmp_path_factory.mktemp("calibrated"))
    return made


def data_of(task: "CalibratedTask") -> object:
    return sys.modules[type(task).__module__]


def fixed(task: "CalibratedTask") -> str:
    return str(getattr(data_of(task), "FIX"))  # noqa: B009 -- a module that was loaded by path


def said(verdict: Verdict, name: str) -> str:
    return next((part.rationale for part in verdict.components if part.name == name and part.value < 1.0), "")


def test_each_deciding_function_is_protected_and_calibration_costs_few_runs(task: "CalibratedTask") -> None:
    found = task.found
    assert (found.protection.values, found.protection.strong_twins, found.protection.none) == (3, 1, 0)
    assert found.runs <= 25
    assert found.plan.canary_files == ("tests/test_tiny.py",)
    kinds = {test.name: {twin.kind for twin in test.twins if twin.strong} for test in found.plan.tests}
    assert kinds["test_check"] == {TwinKind.EXCEPTION}
    assert TwinKind.LITERAL in kinds["test_animal"]
    assert (found.plan.calibration.audit_kinds, found.plan.calibration.changed_names) == ((), ())


def test_calibration_finds_the_same_bytes_again(task: "CalibratedTask") -> None:
    again = data_of(task).calibrate_package(task.tiny, task.package)  # type: ignore[attr-defined] -- loaded by path
    assert render_trust(again.plan) == render_trust(task.found.plan)


@pytest.mark.parametrize("level", [FAST, STANDARD, STRICT], ids=lambda level: level.name)
def test_the_true_fix_scores_1_and_no_change_0_at_every_level(task: "CalibratedTask", level: GradingLevel) -> None:
    verdict = task.grade(None, level)
    assert (verdict.outcome, verdict.reward) == (Outcome.SCORED, 1.0), verdict
    assert verdict.provenance is not None
    assert verdict.provenance.level == level.name
    verdict = task.grade("def greet(name):\n    return f'hello {name}'\n", level)
    assert verdict.reward == 0.0
    assert said(verdict, "fail_to_pass")
    assert not said(verdict, "tampered")


HONEST = {
    "subclass": ("return 'zebra-' + str(4711)", "return type('Text', (str,), {})('zebra-' + str(4711))"),
    "equal_object": (
        "return a + b",
        "return type('Sum', (), {'__init__': lambda s: None, '__eq__': lambda s, o: o == a + b, '__hash__': None})()",
    ),
    "logging": ("return a * 2", "import logging; logging.getLogger(__name__).warning('a %s', a); return a * 2"),
    "warning": ("return a * 2", "import warnings; warnings.warn('slow', stacklevel=2); return a * 2"),
    "thread": (
        "return a * 2",
        "from concurrent.futures import ThreadPoolExecutor as P; return P(1).submit(lambda: a * 2).result()",
    ),
    "other_exception": ("raise ValueError(number)", "raise type('TooSmall', (ValueError,), {})(number)"),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_variants_score_1(task: "CalibratedTask", name: str) -> None:
    old, new = HONEST[name]
    module = fixed(task).replace(old, new)
    assert module != fixed(task)
    verdict = task.grade(module)
    assert verdict.reward == 1.0, verdict
    if name == "equal_object":
        assert "test_add" in said(verdict, "values_outside")


EQUAL = (
    "class Anything:\n    def __eq__(self, other):\n        return True\n    __hash__ = None\n\n\n"
    "def add(a, b):\n    return Anything()\n\n\ndef greet(name):\n    return f'hello {name}'\n\n\n"
    "def animal():\n    return Anything()\n\n\ndef twice(a):\n    return Anything()\n\n\n"
    "def check(number):\n    raise type('E', (ValueError, TypeError, KeyError, AttributeError), {})(number)\n"
)
PATCHED = "import _pytest.python\n_pytest.python.Function.runtest = lambda self: None\n"
CODE = (
    "import sys\n\n\ndef swap():\n    for name, module in list(sys.modules.items()):\n"
    "        for key, value in list(vars(module).items()):\n            if key.startswith('test_'):\n"
    "                value.__code__ = (lambda *a, **k: None).__code__\n\n\n"
    "import threading\nthreading.Timer(0.01, swap).start()\n"
)
CHEATS = {
    "equal_to_everything": (EQUAL, "mixed_runs", "altered so that it must fail"),
    "patched_runner": (PATCHED + EQUAL, "tampered", "canaries"),
    "memory_listed": ("import gc\ngc.get_objects()\n", "tampered", "listed all objects"),
}


@pytest.mark.parametrize("name", CHEATS)
def test_what_fights_its_grading_scores_0_and_is_named(task: "CalibratedTask", name: str) -> None:
    text, component, words = CHEATS[name]
    verdict = task.grade(text if "def add" in text else text + fixed(task))
    assert verdict.reward == 0.0, verdict
    assert words in said(verdict, component), verdict


SEARCH = """
def _search():
    import os
    words = [("zebra-" + "4711").encode(), b"envfarm" + b".trust/1", b"first_" + b"token"]
    for top in ("/workspace", "/opt/project", "/opt/envfarm", "/tmp", "/home", "/dev/shm", "/proc/self", "/var"):
        for folder, _, names in os.walk(top):
            for name in names:
                path = os.path.join(folder, name)
                if path.endswith((".py", "pagemap", "kmsg")) and path.startswith(("/opt/envfarm", "/proc")):
                    continue
                try:
                    if not os.path.isfile(path):
                        continue
                    with open(path, "rb") as file:
                        data = file.read(1 << 20)
                except OSError:
                    continue
                for word in words:
                    if word in data and not path.endswith("__init__.py"):
                        raise SystemExit("FOUND %s in %s" % (word, path))


_search()
"""


def test_nothing_that_is_kept_outside_lies_in_the_box_of_the_whole_run(task: "CalibratedTask") -> None:
    verdict = task.grade(SEARCH + fixed(task))
    told = " ".join(f"{part.rationale} {part.evidence}" for part in verdict.components)
    assert "FOUND" not in told
    assert said(verdict, "fail_to_pass") == "", verdict
    assert "looked into /proc" in said(verdict, "tampered")


class Losing:
    """A provider that loses some of its boxes: what a machine that fails under a grading looks like."""

    def __init__(self, inner: SandboxProvider, lost: frozenset[int]) -> None:
        self.inner, self.lost, self.leases = inner, lost, 0
        self.name = "losing"

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Sandbox]:
        self.leases += 1
        if self.leases in self.lost:
            message = "the machine is gone"
            raise SandboxLostError(message)
        async with self.inner.lease(request) as sandbox:
            yield sandbox


@pytest.mark.parametrize(
    ("lost", "reward", "leases"),
    [({3}, 1.0, 6), ({1}, 1.0, 6), (set(range(2, 50)), None, None)],
    ids=["one small run", "the whole run", "all but one"],
)
def test_a_lost_box_is_the_farms_fault_and_costs_one_run(
    task: "CalibratedTask", lost: set[int], reward: float | None, leases: int | None
) -> None:
    submission = task.submit(None)

    async def run() -> tuple[Verdict, int]:
        async with open_local_provider({}) as local:
            losing = Losing(local, frozenset(lost))
            verdict = await grade(task.package, submission, provider=losing, image=task.tiny.image)
            return verdict, losing.leases

    verdict, used = anyio.run(run)
    assert verdict.reward == reward
    assert not said(verdict, "mixed_runs")
    if reward is None:
        assert verdict.outcome is Outcome.UNSCORED
        assert verdict.failure is not None
        assert verdict.failure.code == "sandbox_lost"
    else:
        assert used == leases


def test_a_grading_that_broke_off_goes_on_from_its_finished_runs(task: "CalibratedTask", tmp_path: Path) -> None:
    submission = task.submit(None)

    async def run(lost: set[int]) -> tuple[Verdict, int]:
        async with open_local_provider({}) as local:
            losing = Losing(local, frozenset(lost))
            options = GradingOptions(retries=0, resume_folder=tmp_path)
            image = task.tiny.image
            verdict = await grade(task.package, submission, provider=losing, image=image, options=options)
            return verdict, losing.leases

    verdict, _ = anyio.run(run, set(range(4, 50)))
    assert verdict.outcome is Outcome.UNSCORED
    (kept,) = tmp_path.iterdir()
    assert kept.stat().st_mode & 0o077 == 0
    finished = {file.name for file in kept.iterdir()}
    assert {"seed", "whole"} < {name.split("-")[0] for name in finished}
    verdict, used = anyio.run(run, set())
    assert verdict.reward == 1.0, verdict
    assert used == 5 - len(finished - {"seed"})
    assert list(tmp_path.iterdir()) == []
    verdict, used = anyio.run(run, set())
    assert (verdict.reward, used) == (1.0, 5)


@pytest.mark.parametrize("lost", ["runs", "seed"])
def test_a_kept_file_that_is_broken_costs_a_run_and_no_reward(
    lost: str, task: "CalibratedTask", tmp_path: Path
) -> None:
    submission = task.submit(None)

    async def run(leases: set[int]) -> Verdict:
        async with open_local_provider({}) as local:
            options = GradingOptions(retries=0, resume_folder=tmp_path)
            boxes = Losing(local, frozenset(leases))
            return await grade(task.package, submission, provider=boxes, image=task.tiny.image, options=options)

    assert anyio.run(run, set(range(3, 50))).outcome is Outcome.UNSCORED
    (kept,) = tmp_path.iterdir()
    for file in kept.iterdir():
        if (file.name == "seed") == (lost == "seed"):
            file.write_bytes(file.read_bytes()[:-20])
    assert anyio.run(run, set()).reward == 1.0
