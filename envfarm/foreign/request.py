"""What a foreign task is asked to judge, and what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from envfarm.foreign.box import FoundImage, Lease
from envfarm.records.verdict import Component


class WorkKind(StrEnum):
    """Who did the work that is judged."""

    ORACLE = "oracle"
    """The task's own solution, run in the box."""
    NO_OP = "no_op"
    """Nobody."""
    WORKSPACE = "workspace"
    """Somebody else, somewhere else: the working directory is made to be what they left."""
    PATCH = "patch"
    """Somebody else: what they left is a diff against the working directory."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work that is judged.

    Attributes:
        kind: Who did it.
        content: Of a workspace the archive of it (tar), of a patch the diff; else empty.
    """

    kind: WorkKind
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How a folder is built, where it is not in the usual way.

    Attributes:
        dockerfile: Path of the recipe below the folder.
        arguments: Of the build.
        target: Stage that is built; empty for the last one.
    """

    dockerfile: str = "Dockerfile"
    arguments: Mapping[str, str] = field(default_factory=dict)
    target: str = ""


class ImageSource(Protocol):
    """Brings images to the machine that leases boxes."""

    async def named(self, name: str, *, timeout_seconds: float) -> FoundImage:
        """Return an image by its name, pulled where it is not there.

        Raises:
            ImageBuildError: It is not to be had.
        """
        ...

    async def built(
        self,
        files: Mapping[str, bytes],
        programs: frozenset[str],
        *,
        timeout_seconds: float,
        options: BuildOptions | None = None,
    ) -> FoundImage:
        """Return the image that a folder with a Dockerfile makes.

        Args:
            files: Content by path relative to the folder.
            programs: Those with the executable bit.
            timeout_seconds: Bound on the whole build.
            options: What is not as usual.

        Raises:
            ImageBuildError: It cannot be built.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class JudgeRequest:
    """All that a foreign task needs to judge.

    Attributes:
        work: What is judged.
        lease: Leases boxes.
        images: Brings images.
        environ: This machine's variables, which the task may ask for.
        reward_key: Which of several rewards counts; None where there is one.
    """

    work: Work
    lease: Lease
    images: ImageSource
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    reward_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class ForeignJudgement:
    """What was found.

    Attributes:
        reward: Finite.
        components: What it is made of, in order.
    """

    reward: float
    components: tuple[Component, ...]


class ForeignTask(Protocol):
    """A task of somebody else's that can be judged."""

    @property
    def task_id(self) -> str:
        """Its name."""
        ...

    @property
    def digest(self) -> str:
        """``sha256:`` and 64 hex digits over its files."""
        ...

    @property
    def verifier(self) -> str:
        """What judges it: ``harbor`` or ``swebench``."""
        ...

    async def judge(self, request: JudgeRequest) -> ForeignJudgement:
        """Judge the work.

        Raises:
            BoundaryError: There is no judgement, and whose fault that is.
            UserError: The task or the request is wrong.
        """
        ...
