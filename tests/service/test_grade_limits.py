"""What exhausts a box is the submission's doing and scores 0; what breaks around it is UNSCORED, never 0."""

import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest

from envfarm.errors import Attribution, SandboxLostError, TaskError
from envfarm.grading.contract import Judgement, VerifierInfo, VerifyRequest
from envfarm.grading.grade import GradingOptions, grade
from envfarm.records.image import Folder
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import REFERENCE_ARCHIVE
from envfarm.records.verdict import Outcome, Verdict
from envfarm.sandbox.contract import ENVIRONMENT, ExecResult, LeaseRequest, Limits, Sandbox, SandboxProvider
from envfarm.sandbox.local.provider import open_local_provider
from envfarm_verifiers.unit_tests import UnitTestsVerifier

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask

SOURCE = "src/tiny/__init__.py"
ORACLE = Submission(task_id="tiny-0001", kind=SubmissionKind.ORACLE)


def why(verdict: Verdict) -> str:
    assert verdict.outcome is Outcome.SCORED, verdict.failure
    return " | ".join(f"{c.name}: {c.rationale}" for c in verdict.components if c.value != 1.0)


def test_a_hang_at_import_scores_zero(tiny_task: "TinyTask") -> None:
    patch = tiny_task.patch({SOURCE: "while True: pass\n"})
    verdict = tiny_task.grade(patch, run_timeout_seconds=1.5)
    assert verdict.reward == 0.0
    assert "hung" in why(verdict)


def test_a_hang_in_a_test_scores_zero_and_names_the_test(tiny_task: "TinyTask") -> None:
    patch = tiny_task.patch({SOURCE: tiny_task.broken.replace("return a - b", "import time; time.sleep(99)")})
    verdict = tiny_task.grade(patch, run_timeout_seconds=4.0)
    assert verdict.reward == 0.0
    assert "the tests hung: the run's time limit came in tests/test_more.py::test_more" in why(verdict)


def test_stopping_at_the_first_failure_still_says_which(tiny_task: "TinyTask") -> None:
    verdict = tiny_task.grade(b"", stop_at_first_failure=True)
    assert verdict.reward == 0.0
    assert "test_more failed" in why(verdict)


class SmallBoxes:
    """Boxes of a provider, each with less room."""

    name = "small"

    def __init__(self, provider: SandboxProvider, limits: Limits) -> None:
        self._provider = provider
        self._limits = limits

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Sandbox]:
        async with self._provider.lease(replace(request, limits=self._limits)) as sandbox:
            yield sandbox


class LostBoxes:
    """Boxes of a provider that are lost at the second command; the first `healthy_after` leases only."""

    name = "lost"

    def __init__(self, provider: SandboxProvider, healthy_after: int) -> None:
        self._provider = provider
        self._healthy_after = healthy_after
        self.leases = 0

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Sandbox]:
        self.leases += 1
        async with self._provider.lease(request) as sandbox:
            yield LosingBox(sandbox) if self.leases <= self._healthy_after else sandbox


class LosingBox:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._commands = 0
        self.read_file, self.write_file = sandbox.read_file, sandbox.write_file

    async def exec(self, argv: tuple[str, ...], **options: object) -> ExecResult:
        self._commands += 1
        if self._commands > 1:
            message = "the machine below the box is gone"
            raise SandboxLostError(message)
        return await self._sandbox.exec(argv, **options)  # type: ignore[arg-type] -- passed on as they came


def grade_in(
    tiny: "TinyTask", wrap: type, wrapped: Mapping[str, object], submission: Submission = ORACLE, **options: object
) -> tuple[Verdict, object]:
    async def run() -> tuple[Verdict, object]:
        async with open_local_provider({}) as provider:
            boxes = wrap(provider, **wrapped)
            verdict = await grade(
                tiny.package, submission, provider=boxes, image=tiny.image, verifier=UnitTestsVerifier(), **options
            )
            return verdict, boxes

    return anyio.run(run)


def test_an_interpreter_that_cannot_be_run_is_nobody_s_zero(tiny_task: "TinyTask", tmp_path: Path) -> None:
    kept = [folder for folder in tiny_task.image.folders if folder.target != str(ENVIRONMENT)]
    folders = (*kept, Folder(source=str(tmp_path), target=str(ENVIRONMENT)))
    broken = replace(tiny_task, image=msgspec.structs.replace(tiny_task.image, folders=folders))
    for submission in (ORACLE, Submission(task_id="tiny-0001", kind=SubmissionKind.NO_OP)):
        verdict, _ = grade_in(broken, SmallBoxes, {"limits": Limits()}, submission)
        assert verdict.outcome is not Outcome.SCORED
        assert verdict.failure is not None
        assert verdict.failure.attribution is Attribution.SANDBOX
        assert "interpreter" in verdict.failure.message


def test_a_submission_that_says_so_is_still_its_own_zero(tiny_task: "TinyTask") -> None:
    verdict = tiny_task.grade(tiny_task.patch({SOURCE: "import os\nos._exit(127)\n" + tiny_task.fixed}))
    assert verdict.reward == 0.0


def test_a_full_disk_scores_zero(tiny_task: "TinyTask") -> None:
    fill = "try:\n    open('/workspace/fill', 'wb').write(bytes(40 << 20))\nfinally:\n    pass\n"
    submission = tiny_task.submit(tiny_task.patch({SOURCE: fill + tiny_task.fixed}))
    limits = {"limits": Limits(disk_bytes=24 << 20)}
    verdict, _ = grade_in(tiny_task, SmallBoxes, limits, submission)
    assert verdict.reward == 0.0
    assert "No space left" in why(verdict)


def test_a_patch_that_fills_the_disk_scores_zero(tiny_task: "TinyTask") -> None:
    submission = tiny_task.submit(
        tiny_task.patch({SOURCE: tiny_task.fixed, "big.txt": "0123456789abcde\n" * (1 << 19)})
    )
    verdict, _ = grade_in(tiny_task, SmallBoxes, {"limits": Limits(disk_bytes=4 << 20)}, submission)
    assert verdict.reward == 0.0
    assert "submission_applied" in why(verdict)


def test_memory_without_end_scores_zero(tiny_task: "TinyTask") -> None:
    submission = tiny_task.submit(tiny_task.patch({SOURCE: "x = []\nwhile True: x.append(bytes(1 << 22))\n"}))
    verdict, _ = grade_in(tiny_task, SmallBoxes, {"limits": Limits(memory_bytes=256 << 20)}, submission)
    assert verdict.reward == 0.0


def test_a_lost_box_is_replaced_once(tiny_task: "TinyTask") -> None:
    verdict, boxes = grade_in(tiny_task, LostBoxes, {"healthy_after": 1})
    assert (verdict.reward, boxes.leases) == (1.0, 2)


def test_a_box_lost_again_is_unscored_and_nobody_takes_it_for_zero(tiny_task: "TinyTask") -> None:
    verdict, boxes = grade_in(tiny_task, LostBoxes, {"healthy_after": 9})
    assert (verdict.outcome, verdict.reward, boxes.leases) == (Outcome.UNSCORED, None, 2)
    assert verdict.failure is not None
    assert (verdict.failure.attribution, verdict.failure.code) == (Attribution.SANDBOX, "sandbox_lost")
    assert verdict.failure.retryable


def test_a_missing_image_is_unscored_at_the_start(tiny_task: "TinyTask") -> None:
    broken = msgspec.structs.replace(tiny_task.image, folders=(Folder(source="/nowhere/at/all", target="/opt/venv"),))
    verdict = replace(tiny_task, image=broken).grade(b"")
    assert verdict.outcome is Outcome.UNSCORED
    assert verdict.failure is not None
    assert verdict.failure.phase == "start"
    assert "/nowhere/at/all" in verdict.failure.message


def test_hidden_tests_that_are_damaged_are_unscored(tiny_task: "TinyTask") -> None:
    package = replace(tiny_task.package, files={**tiny_task.package.files, REFERENCE_ARCHIVE: b"no archive"})
    verdict = replace(tiny_task, package=package).grade(ORACLE)
    assert verdict.outcome is Outcome.UNSCORED
    assert verdict.reward is None


class OddVerifier:
    """A verifier that answers or raises whatever it is told."""

    def __init__(self, answer: object, schema: Mapping[str, object] | None = None) -> None:
        self._answer = answer
        self.info = VerifierInfo(
            name="odd",
            version="1",
            needs=frozenset(),
            config_schema=schema or {},
            budget_seconds=5.0,
            deterministic=False,
        )

    async def verify(self, request: VerifyRequest) -> Judgement:
        assert request.package.task.task_id == "tiny-0001"
        if isinstance(self._answer, float):
            await anyio.sleep(self._answer)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer  # type: ignore[return-value] -- that is what is odd


@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("boom"),
        ExceptionGroup("several", [RuntimeError("boom")]),
        None,
        Judgement(reward=float("nan"), components=()),
        Judgement(reward=float("inf"), components=()),
        Judgement(reward="1", components=()),  # type: ignore[arg-type] -- a verifier that breaks its contract
        Judgement(reward=True, components=()),
    ],
)
def test_a_verifier_that_breaks_is_unscored(answer: object, tiny_task: "TinyTask") -> None:
    verdict = tiny_task.grade(b"", verifier=OddVerifier(answer))
    assert (verdict.outcome, verdict.reward) == (Outcome.UNSCORED, None)
    assert verdict.failure is not None
    assert (verdict.failure.attribution, verdict.failure.code) == (Attribution.VERIFIER, "verifier_error")
    assert not verdict.failure.retryable


def test_a_boundary_error_keeps_its_own_fault_through_task_groups(tiny_task: "TinyTask") -> None:
    error = ExceptionGroup("a", [ValueError("x"), ExceptionGroup("b", [SandboxLostError("gone")])])
    verdict = tiny_task.grade(b"", verifier=OddVerifier(error))
    assert verdict.failure is not None
    assert (verdict.failure.code, verdict.failure.message) == ("sandbox_lost", "gone")


def grade_oddly(tiny: "TinyTask", answer: object, **options: object) -> Verdict:
    async def run() -> Verdict:
        async with open_local_provider({}) as provider:
            boxes = {"provider": provider, "image": tiny.image, "verifier": OddVerifier(answer)}
            return await grade(tiny.package, ORACLE, **boxes, **options)

    return anyio.run(run)


def test_a_spent_budget_is_unscored(tiny_task: "TinyTask") -> None:
    verdict = grade_oddly(tiny_task, 60.0, options=GradingOptions(budget_seconds=0.05))
    assert verdict.failure is not None
    assert (verdict.failure.code, verdict.failure.attribution) == ("budget_exceeded", Attribution.FARM)


def test_a_cancelled_grading_says_so_at_once(tiny_task: "TinyTask") -> None:
    hang = tiny_task.submit(tiny_task.patch({SOURCE: "while True: pass\n"}))

    async def run() -> Verdict:
        cancel = anyio.Event()
        async with open_local_provider({}) as provider, anyio.create_task_group() as group:
            group.start_soon(set_later, cancel)
            boxes = {"provider": provider, "image": tiny_task.image, "verifier": UnitTestsVerifier()}
            return await grade(tiny_task.package, hang, **boxes, cancel=cancel)

    async def set_later(cancel: anyio.Event) -> None:
        await anyio.sleep(0.7)
        cancel.set()

    started = time.monotonic()
    verdict = anyio.run(run)
    assert (verdict.outcome, verdict.reward, verdict.failure) == (Outcome.CANCELLED, None, None)
    assert time.monotonic() - started < 5


def test_a_cancelled_caller_is_cancelled(tiny_task: "TinyTask") -> None:
    async def run() -> bool:
        async with open_local_provider({}) as provider:
            boxes = {"provider": provider, "image": tiny_task.image, "verifier": OddVerifier(60.0)}
            with anyio.move_on_after(0.05) as scope:
                await grade(tiny_task.package, ORACLE, **boxes)
            return scope.cancelled_caught

    assert anyio.run(run)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"stop_at_first_failur": True}, "did you mean 'stop_at_first_failure'"),
        ({"stop_at_first_failure": "yes"}, "of type boolean"),
        ({"run_timeout_seconds": 0}, "more than 0"),
    ],
)
def test_a_wrong_configuration_is_an_error_of_the_task(
    config: dict[str, object], message: str, tiny_task: "TinyTask"
) -> None:
    with pytest.raises(TaskError, match=message):
        tiny_task.grade(b"", **config)


def test_the_verdict_says_what_was_judged_by_what(tiny_task: "TinyTask") -> None:
    verdict = tiny_task.grade(b"")
    assert verdict.provenance is not None
    assert verdict.provenance.verifier == "unit_tests"
    assert verdict.provenance.submission_digest == f"sha256:{hashlib.sha256(b'').hexdigest()}"
    assert set(verdict.seconds) == {"start", "verify"}
    assert 0 < verdict.seconds["start"] < 5
