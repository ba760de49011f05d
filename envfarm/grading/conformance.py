"""The verifier contract as checks that anybody can run over their own verifier; no test framework is needed.

::

    async with open_local_provider({}) as provider:
        material = ConformanceMaterial(package=package, image=image, provider=provider)
        await check_verifier(MyVerifier(), material)

Each case is a coroutine function in `CASES`, by name, so that a test framework can run them one by one. A case that
finds the contract broken raises ContractBrokenError; its text says what was expected of the verifier.

Not covered: whether a verifier judges well; only that what it says can be trusted to be said.
"""

import io
import json
import math
import tarfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import anyio

from envfarm.errors import BoundaryError
from envfarm.grading.config_check import find_config_problem
from envfarm.grading.conformance_boxes import Watch, WatchedProvider
from envfarm.grading.contract import Judgement, Verifier, VerifyRequest
from envfarm.grading.grade import fill_oracle
from envfarm.records.image import Image
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import REFERENCE_ARCHIVE, TaskPackage
from envfarm.sandbox.contract import Network, SandboxProvider

_NEEDS = frozenset({"sandbox", "browser", "judge", "network"})
_MOST_COMMANDS = 20
_CANCEL_SECONDS = 10.0
_MARK_BYTES = 64


class ContractBrokenError(AssertionError):
    """A verifier does something that its contract forbids, or leaves out something that it asks for."""


@dataclass(frozen=True, kw_only=True)
class ConformanceMaterial:
    """What the cases work with: a real task whose oracle scores more than no change.

    Attributes:
        package: The task, with its true fix.
        image: Its image on this machine.
        provider: Leases boxes; cases put watching and failing ones in between.
        budget_seconds: Budget of each judgement.
    """

    package: TaskPackage
    image: Image
    provider: SandboxProvider
    budget_seconds: float = 300.0

    @property
    def oracle(self) -> Submission:
        """The true fix."""
        kind = SubmissionKind.ORACLE
        return fill_oracle(self.package, Submission(task_id=self.package.task.task_id, kind=kind))

    @property
    def no_op(self) -> Submission:
        """No change."""
        return Submission(task_id=self.package.task.task_id, kind=SubmissionKind.NO_OP)

    def request(self, submission: Submission, watch: Watch | None = None) -> VerifyRequest:
        """Return the request to judge a submission in watched boxes."""
        return VerifyRequest(
            package=self.package,
            submission=submission,
            image=self.image,
            lease=WatchedProvider(self.provider, watch or Watch()).lease,
            config=self.package.task.verifier_config,
            budget_seconds=self.budget_seconds,
        )


Case = Callable[[Verifier, ConformanceMaterial], Awaitable[None]]


async def check_verifier(verifier: Verifier, material: ConformanceMaterial) -> None:
    """Run every case, in order.

    Raises:
        ContractBrokenError: The first case that finds the contract broken.
    """
    for case in CASES.values():
        await case(verifier, material)


async def check_info(verifier: Verifier, material: ConformanceMaterial) -> None:
    """What a verifier declares of itself is complete, plain data, and always the same."""
    info = verifier.info
    _expect(info == verifier.info, "`info` is the same whenever it is asked for")
    _expect(bool(info.name) and bool(info.version), "`info` has a name and a version")
    _expect(info.needs <= _NEEDS, f"`needs` are of {sorted(_NEEDS)}, not {sorted(info.needs - _NEEDS)}")
    _expect(math.isfinite(info.budget_seconds) and info.budget_seconds > 0, "`budget_seconds` is a positive number")
    try:
        json.dumps(info.config_schema)
    except (TypeError, ValueError) as error:
        message = f"`config_schema` is JSON: {error}"
        raise ContractBrokenError(message) from error
    problem = find_config_problem(material.package.task.verifier_config, info.config_schema)
    _expect(problem is None, f"the task's configuration fits `config_schema`: {problem}")


async def check_oracle_above_no_op(verifier: Verifier, material: ConformanceMaterial) -> None:
    """The true fix earns more than no change, and what is missing is said."""
    oracle = await _judge(verifier, material.request(material.oracle))
    no_op = await _judge(verifier, material.request(material.no_op))
    _expect(oracle.reward > no_op.reward, f"the oracle ({oracle.reward}) earns more than no change ({no_op.reward})")
    told = [part for part in no_op.components if part.value < 1.0 and part.rationale]
    _expect(bool(told), "a component of a lower reward says what is missing, in words")


async def check_bad_submissions_are_judged(verifier: Verifier, material: ConformanceMaterial) -> None:
    """What a submission does badly is a low reward, never an exception."""
    best = (await _judge(verifier, material.request(material.oracle))).reward
    for patch in (b"no diff at all", b"\xff\x00\n", b"--- a/../x\n+++ b/../x\n@@ -0,0 +1 @@\n+x\n"):
        bad = Submission(task_id=material.package.task.task_id, kind=SubmissionKind.PATCH, patch=patch)
        judgement = await _judge(verifier, material.request(bad))
        _expect(judgement.reward < best, f"{patch!r} earns less than the oracle")


async def check_determinism(verifier: Verifier, material: ConformanceMaterial) -> None:
    """A verifier that calls itself deterministic gives the same submission the same judgement."""
    if not verifier.info.deterministic:
        return
    for submission in (material.oracle, material.no_op):
        first, second = [await _judge(verifier, material.request(submission)) for _ in range(2)]
        _expect(first.reward == second.reward, "the same submission earns the same reward again")
        values = [[(part.name, part.value) for part in judgement.components] for judgement in (first, second)]
        _expect(values[0] == values[1], "the same submission has the same components again")


async def check_boxes_are_given_back(verifier: Verifier, material: ConformanceMaterial) -> None:
    """Every box is leased through the request, without network unless declared, and given back."""
    watch = Watch()
    await _judge(verifier, material.request(material.oracle, watch))
    if "sandbox" in verifier.info.needs:
        _expect(bool(watch.requests), "a verifier that needs a sandbox leases it through the request")
    _expect(watch.open == 0, "every box is given back before the judgement is")
    if "network" not in verifier.info.needs:
        reached = [request for request in watch.requests if request.network is not Network.NONE]
        _expect(not reached, "no box has a network unless `needs` names it")


async def check_hidden_tests_come_late(verifier: Verifier, material: ConformanceMaterial) -> None:
    """Hidden files are in no box before the submission is."""
    submission = material.oracle
    mark = max(submission.patch.splitlines(), key=len, default=b"")[:_MARK_BYTES]
    watch = Watch(submission=mark, hidden=_hidden_files(material.package))
    await _judge(verifier, material.request(submission, watch))
    _expect(not watch.early, f"hidden files come after the submission: {', '.join(sorted(set(watch.early)))}")


async def check_lost_boxes_raise(verifier: Verifier, material: ConformanceMaterial) -> None:
    """A box that is lost at any command is a BoundaryError, never a judgement."""
    for number in range(1, _MOST_COMMANDS):
        watch = Watch(lost_at=number)
        try:
            await verifier.verify(material.request(material.oracle, watch))
        except BoundaryError:
            _expect(watch.open == 0, "boxes are given back when one is lost")
            continue
        except ExceptionGroup as group:
            _expect(group.subgroup(BoundaryError) is not None, "a lost box is a BoundaryError")
            continue
        _expect(watch.commands < number, f"a box that is lost at command {number} is no judgement")
        return


async def check_cancellation(verifier: Verifier, material: ConformanceMaterial) -> None:
    """A cancelled judgement ends soon, raises nothing of its own, and gives its boxes back."""
    if "sandbox" not in verifier.info.needs:
        return
    watch = Watch(stalled_at=1)
    ended = False
    with anyio.move_on_after(_CANCEL_SECONDS, shield=True) as bound:
        async with anyio.create_task_group() as group:
            group.start_soon(verifier.verify, material.request(material.oracle, watch))
            await watch.stalled.wait()
            group.cancel_scope.cancel()
        ended = True
    _expect(ended and not bound.cancelled_caught, f"a cancelled judgement ends within {_CANCEL_SECONDS:.0f} s")
    _expect(watch.open == 0, "a cancelled judgement gives its boxes back")


CASES: Mapping[str, Case] = {
    "info": check_info,
    "oracle_above_no_op": check_oracle_above_no_op,
    "bad_submissions_are_judged": check_bad_submissions_are_judged,
    "determinism": check_determinism,
    "boxes_are_given_back": check_boxes_are_given_back,
    "hidden_tests_come_late": check_hidden_tests_come_late,
    "lost_boxes_raise": check_lost_boxes_raise,
    "cancellation": check_cancellation,
}


async def _judge(verifier: Verifier, request: VerifyRequest) -> Judgement:
    judgement: object = await verifier.verify(request)
    if not isinstance(judgement, Judgement):
        message = f"`verify` returns a Judgement, not {type(judgement).__name__}"
        raise ContractBrokenError(message)
    _expect(math.isfinite(judgement.reward), f"a reward is finite, not {judgement.reward}")
    names = [part.name for part in judgement.components]
    _expect(bool(names), "a judgement has components")
    _expect(len(names) == len(set(names)), "components have names of their own")
    _expect(all(math.isfinite(part.value) for part in judgement.components), "the value of a component is finite")
    return judgement


def _hidden_files(package: TaskPackage) -> dict[str, bytes]:
    """Return the content of hidden files by path; a base file that is hidden only again shows nothing."""
    archive = package.files.get(REFERENCE_ARCHIVE)
    if archive is None:
        return {}
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:*") as opened:
        for member in opened:
            content = opened.extractfile(member) if member.isreg() else None
            if content is not None and member.name in _decisive_paths(package):
                found[member.name] = content.read()
    return found


def _decisive_paths(package: TaskPackage) -> frozenset[str]:
    return frozenset(name.split("::", 1)[0] for name in package.task.tests.fail_to_pass)


def _expect(true: bool, claim: str) -> None:  # noqa: FBT001 -- reads like an assertion
    if not true:
        message = f"expected of a verifier: {claim}"
        raise ContractBrokenError(message)
