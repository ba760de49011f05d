"""What a verifier is: it turns a submission into a judgement, in boxes that it leases and nobody else touches.

A verifier never decides whose fault a failure is and never returns "no reward": it returns a judgement, or it lets a
BoundaryError pass. `envfarm.grading.grade` makes the verdict of either, in exactly one place.
`envfarm.grading.conformance` is this contract as tests.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from envfarm.grading.finished_runs import FinishedRuns, RunsInMemory
from envfarm.grading.level import STANDARD, GradingLevel
from envfarm.records.image import Image
from envfarm.records.submission import Submission
from envfarm.records.task import TaskPackage
from envfarm.records.verdict import Component
from envfarm.sandbox.contract import LeaseRequest, Sandbox

Lease = Callable[[LeaseRequest], AbstractAsyncContextManager[Sandbox]]


@dataclass(frozen=True, kw_only=True)
class VerifierInfo:
    """What a verifier declares of itself.

    Attributes:
        name: Entry-point name.
        version: Changes whenever the same submission may be judged otherwise.
        needs: Of ``sandbox``, ``browser``, ``judge``, ``network``.
        config_schema: JSON Schema of the configuration that a task may carry for it.
        budget_seconds: Wall-clock bound where the task names none.
        deterministic: Whether the same submission always gets the same judgement; only then is it cached.
    """

    name: str
    version: str
    needs: frozenset[str]
    config_schema: Mapping[str, Any]
    budget_seconds: float
    deterministic: bool


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """What a verifier is given.

    Attributes:
        package: The task with its hidden files.
        submission: What the policy left; for an oracle the patch is already filled in.
        image: The task's image, ready on this machine. Its workspace is at the base.
        lease: Leases a fresh box; every box that a verifier uses comes from here.
        config: The task's configuration for this verifier, checked against its schema.
        budget_seconds: Wall-clock bound for the whole judgement.
        level: How much to do against code that fights its grading.
        finished: What earlier attempts at this judgement have finished; the verifier keeps its runs there.
    """

    package: TaskPackage
    submission: Submission
    image: Image
    lease: Lease
    config: Mapping[str, Any] = field(default_factory=dict)
    budget_seconds: float
    level: GradingLevel = STANDARD
    finished: FinishedRuns = field(default_factory=RunsInMemory)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a verifier found.

    Attributes:
        reward: Finite; by convention 0.0 to 1.0.
        components: What the reward is made of, gates included, in the order a reader wants them.
        evidence: Named blobs for people: reports, output tails.
    """

    reward: float
    components: tuple[Component, ...]
    evidence: Mapping[str, bytes] = field(default_factory=dict)


@runtime_checkable
class Verifier(Protocol):
    """Judges submissions. Instances are stateless; entry points of group ``envfarm.verifiers`` name the class."""

    @property
    def info(self) -> VerifierInfo:
        """What this verifier declares of itself."""
        ...

    async def verify(self, request: VerifyRequest) -> Judgement:
        """Judge one submission.

        Whatever the submission does badly (hangs, crashes, does not apply) is a judgement with reward 0 and a
        component that says so.

        Raises:
            BoundaryError: Something failed that the submission did not cause.
        """
        ...
