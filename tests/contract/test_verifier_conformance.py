"""The built-in verifier keeps the verifier contract, and verifiers that break it are caught."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from envfarm.errors import SandboxLostError
from envfarm.grading.conformance import CASES, ConformanceMaterial, ContractBrokenError
from envfarm.grading.contract import Judgement, Verifier, VerifierInfo, VerifyRequest
from envfarm.grading.grade import load_verifier
from envfarm.records.task import REFERENCE_ARCHIVE
from envfarm.records.verdict import Component
from envfarm.sandbox.contract import LeaseRequest, Network
from envfarm.sandbox.local.provider import open_local_provider
from envfarm_verifiers.patch_application import apply_patch
from envfarm_verifiers.test_files import Placement
from envfarm_verifiers.test_run import place_reference, trusted_folder

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask

Act = Callable[[VerifyRequest], Awaitable[Judgement]]


def run_case(name: str, verifier: Verifier, tiny: "TinyTask") -> None:
    async def run() -> None:
        async with open_local_provider({}) as provider:
            await CASES[name](verifier, ConformanceMaterial(package=tiny.package, image=tiny.image, provider=provider))

    anyio.run(run)


@pytest.mark.parametrize("name", CASES)
def test_the_unit_tests_verifier_keeps_the_contract(name: str, tiny_task: "TinyTask") -> None:
    run_case(name, load_verifier("unit_tests"), tiny_task)


class Odd:
    """A verifier that does one thing wrong."""

    def __init__(self, act: Act, **changes: object) -> None:
        info = VerifierInfo(
            name="odd",
            version="1",
            needs=frozenset({"sandbox"}),
            config_schema={},
            budget_seconds=1.0,
            deterministic=True,
        )
        self.info = replace(info, **changes)
        self._act = act

    async def verify(self, request: VerifyRequest) -> Judgement:
        return await self._act(request)


def reward(value: float, *names: str) -> Judgement:
    return Judgement(reward=value, components=tuple(Component(name=name, value=value) for name in names or ("only",)))


async def say_zero(request: VerifyRequest) -> Judgement:
    assert request.budget_seconds
    return reward(0.0)


async def say_nan(request: VerifyRequest) -> Judgement:
    assert request.budget_seconds
    return reward(float("nan"))


async def use(request: VerifyRequest, network: Network = Network.NONE) -> None:
    lease = LeaseRequest(image=request.image, folders=(trusted_folder(),), network=network)
    async with request.lease(lease) as sandbox:
        await sandbox.exec(("true",), timeout_seconds=5)


async def take_a_loss_for_zero(request: VerifyRequest) -> Judgement:
    try:
        await use(request)
    except SandboxLostError:
        return reward(0.0)
    return reward(1.0)


async def show_hidden_tests_first(request: VerifyRequest) -> Judgement:
    async with request.lease(LeaseRequest(image=request.image, folders=(trusted_folder(),))) as sandbox:
        await place_reference(sandbox, Placement(archive=request.package.files[REFERENCE_ARCHIVE], protected=()))
        await apply_patch(sandbox, request.submission.patch)
    return reward(1.0)


async def use_the_network(request: VerifyRequest) -> Judgement:
    await use(request, Network.PUBLIC)
    return reward(1.0)


async def say_another_name_each_time(request: VerifyRequest) -> Judgement:
    ASKED.append(request)
    return reward(1.0, f"part{len(ASKED)}")


async def say_one_name_twice(request: VerifyRequest) -> Judgement:
    assert request.budget_seconds
    return reward(1.0, "part", "part")


async def raise_for_a_bad_patch(request: VerifyRequest) -> Judgement:
    request.submission.patch.decode("ascii")
    if not request.submission.patch.startswith(b"diff"):
        message = "what is this?"
        raise ContractBrokenError(message)
    return reward(1.0)


ASKED: list[object] = []


@pytest.mark.parametrize(
    ("case", "odd", "claim"),
    [
        ("info", Odd(say_zero, needs=frozenset({"magic"})), "not \\['magic'\\]"),
        ("info", Odd(say_zero, budget_seconds=float("inf")), "budget_seconds"),
        ("info", Odd(say_zero, config_schema={"a": {1}}), "is JSON"),
        ("info", Odd(say_zero, config_schema={"required": ["x"]}), "x is missing"),
        ("info", Odd(say_zero, version=""), "a name and a version"),
        ("oracle_above_no_op", Odd(say_zero), "earns more than no change"),
        ("oracle_above_no_op", Odd(say_nan), "is finite"),
        ("oracle_above_no_op", Odd(say_one_name_twice), "names of their own"),
        ("bad_submissions_are_judged", Odd(raise_for_a_bad_patch), "what is this"),
        ("determinism", Odd(say_another_name_each_time), "same components again"),
        ("boxes_are_given_back", Odd(say_zero), "leases it through the request"),
        ("boxes_are_given_back", Odd(use_the_network), "no box has a network"),
        ("hidden_tests_come_late", Odd(show_hidden_tests_first), "tests/test_more.py, tests/test_tiny.py"),
        ("lost_boxes_raise", Odd(take_a_loss_for_zero), "is no judgement"),
    ],
)
def test_a_verifier_that_breaks_the_contract_is_caught(
    case: str, odd: Verifier, claim: str, tiny_task: "TinyTask"
) -> None:
    with pytest.raises(ContractBrokenError, match=claim):
        run_case(case, odd, tiny_task)
