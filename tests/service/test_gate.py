"""The publish gate in real boxes: the true fix pays, nothing else does, and a grader that is fooled is found out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from envfarm.audit.file_diff import replace_file
from envfarm.errors import SandboxLostError, VerifierError
from envfarm.grading.contract import Judgement, Verifier, VerifierInfo, VerifyRequest
from envfarm.records.task import FIX_PATCH, REFERENCE_ARCHIVE, TaskPackage
from envfarm.sandbox.contract import LeaseRequest
from envfarm.sandbox.local.provider import open_local_provider
from envfarm_verifiers.patch_application import apply_patch
from envfarm_verifiers.test_files import Placement
from envfarm_verifiers.test_run import place_reference, trusted_folder
from envfarm_verifiers.unit_tests import UnitTestsVerifier
from task_miner.quality.controls import make_controls
from task_miner.quality.gate import GateRequest, GateResult, run_gate
from task_miner.reasons import ReasonCode

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask

SOURCE = "src/tiny/__init__.py"


class FoolableVerifier:
    """Applies whatever is submitted over the hidden tests, runs a plain pytest, and believes one thing that it sees."""

    def __init__(self, believes: str) -> None:
        self.believes = believes

    @property
    def info(self) -> VerifierInfo:
        return replace(UnitTestsVerifier().info, name=f"foolable-{self.believes}")

    async def verify(self, request: VerifyRequest) -> Judgement:
        tests = request.package.task.tests
        async with request.lease(LeaseRequest(image=request.image, folders=(trusted_folder(),))) as sandbox:
            reference = request.package.files[REFERENCE_ARCHIVE]
            await place_reference(sandbox, Placement(archive=reference, protected=tests.protected))
            await apply_patch(sandbox, request.submission.patch)
            run = await sandbox.exec(
                ["python", "-m", "pytest", "-q", "--continue-on-collection-errors", "tests"], timeout_seconds=60
            )
            if self.believes == "exit code":
                won = run.exit_code == 0
            elif self.believes == "printed summary":
                won = b" passed" in run.stdout and b" failed" not in run.stdout and b" error" not in run.stdout
            else:
                planted = await sandbox.exec(["cat", "/workspace/reward.json"], timeout_seconds=10)
                won = b"1.0" in planted.stdout or run.exit_code == 0
        return Judgement(reward=float(won), components=())


def judge(tiny: "TinyTask", package: TaskPackage | None = None, verifier: Verifier | None = None) -> GateResult:
    task = tiny.package.task
    controls = make_controls(
        task.task_id,
        sources={SOURCE: tiny.base[SOURCE].encode()},
        tests={"tests/test_tiny.py": tiny.base["tests/test_tiny.py"].encode()},
        conftests={"tests/conftest.py": tiny.base["tests/conftest.py"].encode()},
        deciding=task.tests.fail_to_pass,
    )

    async def run() -> GateResult:
        async with open_local_provider({}) as provider:
            return await run_gate(
                GateRequest(
                    package=package or tiny.package,
                    image=tiny.image,
                    provider=provider,
                    controls=controls,
                    boxes=anyio.CapacityLimiter(2),
                    verifier=verifier or UnitTestsVerifier(),
                )
            )

    return anyio.run(run)


def rewards(found: GateResult) -> Mapping[str, tuple[float, ...]]:
    return {row.name: row.rewards for row in found.controls}


def test_the_true_fix_pays_twice_and_no_control_does(tiny_task: "TinyTask") -> None:
    found = judge(tiny_task)
    assert (found.reason, found.detail) == (ReasonCode.OK, "")
    assert rewards(found) == {
        "true_fix": (1.0, 1.0),
        "no_op": (0.0,),
        "conftest_rewrites_outcomes": (0.0,),
        "failing_tests_deleted": (0.0,),
        "module_exits_process": (0.0,),
        "forged_summary_text": (0.0,),
        "forged_summary_then_exit": (0.0,),
        "forged_report_records": (0.0,),
        "planted_reward_file": (0.0,),
    }
    why = {row.name: row.reason for row in found.controls}
    assert why["module_exits_process"].startswith("session_ended")
    assert "no_report_problems" in why["forged_report_records"]
    assert found.fixed_seconds > 0


@pytest.mark.parametrize(
    ("believes", "fooled_by"),
    [
        (
            "exit code",
            {
                "conftest_rewrites_outcomes",
                "module_exits_process",
                "forged_summary_then_exit",
                "forged_report_records",
                "planted_reward_file",
            },
        ),
        ("printed summary", {"conftest_rewrites_outcomes", "forged_summary_then_exit"}),
        ("planted file", {"planted_reward_file", "module_exits_process"}),
    ],
)
def test_a_grader_that_can_be_fooled_accepts_the_control_that_aims_at_it(
    tiny_task: "TinyTask", believes: str, fooled_by: set[str]
) -> None:
    found = judge(tiny_task, verifier=FoolableVerifier(believes))
    assert found.reason is ReasonCode.CONTROL_ACCEPTED
    accepted = {name for name, got in rewards(found).items() if 1.0 in got and name != "true_fix"}
    assert accepted >= fooled_by
    assert "no_op" not in accepted
    assert any(name in found.detail for name in accepted)


def test_a_fix_that_does_not_mend_ends_the_gate_at_once(tiny_task: "TinyTask") -> None:
    wrong = replace_file(SOURCE, tiny_task.base[SOURCE].encode(), tiny_task.base[SOURCE].encode() + b"X = 1\n")
    files = {**tiny_task.package.files, FIX_PATCH: wrong}
    found = judge(tiny_task, replace(tiny_task.package, files=files))
    assert found.reason is ReasonCode.FIX_NOT_SCORED_1
    assert "tests/test_tiny.py::test_add" in found.detail
    assert rewards(found) == {"true_fix": (0.0,)}


class LosingVerifier(FoolableVerifier):
    """Its box is gone whenever it looks."""

    async def verify(self, request: VerifyRequest) -> Judgement:
        message = f"the box is gone that {request.package.task.task_id} was in"
        raise SandboxLostError(message)


def test_a_grading_without_a_reward_is_the_farms_fault_and_no_reason(tiny_task: "TinyTask") -> None:
    with pytest.raises(VerifierError, match="the box is gone"):
        judge(tiny_task, verifier=LosingVerifier(""))
