"""grade_foreign(): work on somebody else's task becomes one verdict, under that task's own rules.

A BoundaryError becomes UNSCORED, as in `envfarm.grading.grade`; a UserError is raised.
"""

import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from envfarm.errors import BoundaryError, SandboxLostError
from envfarm.foreign.box import FoundImage
from envfarm.foreign.request import BuildOptions, ForeignJudgement, ForeignTask, ImageSource, JudgeRequest, Work
from envfarm.grading.grade import failure_of
from envfarm.records.verdict import Failure, Outcome, Provenance, Verdict
from envfarm.sandbox.contract import LeaseRequest, Sandbox, SandboxProvider

_VERSION = "1"


@dataclass(frozen=True, kw_only=True)
class ForeignOptions:
    """How foreign work is graded.

    Attributes:
        environ: This machine's variables, which a task may ask for by name.
        reward_key: Which of several rewards counts; None where there is one.
        retries: How often a lost box is replaced by a fresh one.
    """

    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    reward_key: str | None = None
    retries: int = 1


async def grade_foreign(
    task: ForeignTask,
    work: Work,
    *,
    provider: SandboxProvider,
    images: ImageSource,
    options: ForeignOptions | None = None,
) -> Verdict:
    """Judge work on a foreign task in fresh boxes; nothing of them is left when this returns or raises.

    Args:
        task: The task.
        work: What is judged.
        provider: Leases the boxes.
        images: Brings their images.
        options: Variables, reward key and retries.

    Returns:
        SCORED with a reward, or UNSCORED with a failure that says whose fault it is.

    Raises:
        TaskError: The task asks for what cannot be given, or lacks what was asked for.
        UserError: The work fits no task of this form.
    """
    options = options or ForeignOptions()
    watched = _Watched(provider=provider, images=images)
    request = JudgeRequest(
        work=work, lease=watched.lease, images=watched, environ=options.environ, reward_key=options.reward_key
    )
    started = time.monotonic()
    judgement: ForeignJudgement | None = None
    failure: Failure | None = None
    for attempt in range(options.retries + 1):
        try:
            judgement = await task.judge(request)
            break
        except BoundaryError as error:
            failure = failure_of(error, phase=watched.phase)
            if not isinstance(error, SandboxLostError) or attempt == options.retries:
                break
    seconds = {**watched.seconds, "verify": time.monotonic() - started - sum(watched.seconds.values())}
    return Verdict(
        task_id=task.task_id,
        outcome=Outcome.UNSCORED if judgement is None else Outcome.SCORED,
        reward=None if judgement is None else judgement.reward,
        components=() if judgement is None else judgement.components,
        failure=failure if judgement is None else None,
        provenance=Provenance(
            task_digest=task.digest,
            submission_digest=f"sha256:{hashlib.sha256(str(work.kind).encode() + work.content).hexdigest()}",
            verifier=task.verifier,
            verifier_version=_VERSION,
            image_id=watched.image_id,
        ),
        seconds={name: round(value, 4) for name, value in seconds.items()},
    )


@dataclass(kw_only=True)
class _Watched:
    """Leases boxes and brings images, noting what it is at and how long that takes."""

    provider: SandboxProvider
    images: ImageSource
    phase: str = "verify"
    image_id: str = ""
    seconds: dict[str, float] = field(default_factory=lambda: {"image": 0.0, "start": 0.0})

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Sandbox]:
        """Lease a box."""
        with_label = replace(request, labels={**request.labels, "purpose": "foreign"})
        started, self.phase = time.monotonic(), "start"
        async with self.provider.lease(with_label) as sandbox:
            self.seconds["start"] += time.monotonic() - started
            self.phase = "verify"
            yield sandbox

    async def named(self, name: str, *, timeout_seconds: float) -> FoundImage:
        """Return an image by its name."""
        started, self.phase = time.monotonic(), "image"
        return self._noted(await self.images.named(name, timeout_seconds=timeout_seconds), started)

    async def built(
        self,
        files: Mapping[str, bytes],
        programs: frozenset[str],
        *,
        timeout_seconds: float,
        options: BuildOptions | None = None,
    ) -> FoundImage:
        """Return the image of a recipe."""
        started, self.phase = time.monotonic(), "image"
        found = await self.images.built(files, programs, timeout_seconds=timeout_seconds, options=options)
        return self._noted(found, started)

    def _noted(self, found: FoundImage, started: float) -> FoundImage:
        self.seconds["image"] += time.monotonic() - started
        self.image_id = self.image_id or found.image.image_id
        self.phase = "verify"
        return found
