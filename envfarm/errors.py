"""The whole error tree.

::

    EnvfarmError
    ├── UserError                 bad input: one line that says what to do, exit code 2
    │   ├── SettingsError         envfarm.toml, ENVFARM_*, or an option is wrong
    │   ├── UnknownPluginError    no sandbox, verifier or policy of that name is installed
    │   ├── RecordError           a record is malformed, or of a version this release does not know
    │   ├── TaskError             a task folder is damaged or refused; names the file
    │   ├── RepositoryError       the repository cannot be read, or holds nothing to mine
    │   ├── CheckpointError       a model's config or weights are damaged, incomplete, or of an unknown kind
    │   ├── RequestRefusedError   a request asks a model for something it cannot do; names the field
    │   ├── OutputFolderError     the output folder is not ours, or cannot be written
    │   └── MissingToolError      a program or kernel feature is missing; says what to install
    └── BoundaryError             something that the policy did not cause: becomes UNSCORED, never reward 0
        ├── SandboxStartError     a sandbox could not be made
        │   ├── EngineUnreachableError      the container engine does not answer
        │   ├── EngineDiskFullError         its disk is full
        │   ├── ContainerImageMissingError  an image is nowhere
        │   └── ContainerImagePullError     an image could not be brought
        ├── SandboxLostError      a leased sandbox is gone; the lease is void
        ├── SandboxTakenError     another driver has the sandbox; ask for another one
        ├── SandboxRefusedError   the agent in a sandbox refused a request; the sandbox lives on
        ├── ImageBuildError       the image of a task could not be made
        ├── EngineBusyError       the model's queue is full; later it may not be
        ├── VerifierError         a verifier crashed, or broke its contract
        └── RewardError           another maker's verifier left no reward that is one; `code` says how

What a policy or a submission did badly is never an exception: it is a value (an exit code, a reward of 0.0).
"""

from enum import StrEnum


class Attribution(StrEnum):
    """Whose fault a failure is; `rewards.md` lists the closed set."""

    POLICY = "policy"
    AGENT = "agent"
    TASK = "task"
    VERIFIER = "verifier"
    JUDGE = "judge"
    SANDBOX = "sandbox"
    MODEL_PROVIDER = "model_provider"
    FARM = "farm"
    CALLER = "caller"


class EnvfarmError(Exception):
    """The root of every error that envfarm raises on purpose."""


class UserError(EnvfarmError):
    """The input is wrong. `str()` is one line that says what is wrong and what to do about it."""


class SettingsError(UserError):
    """A setting is unknown, malformed or contradictory."""


class UnknownPluginError(UserError):
    """No installed plug-in has the name asked for."""


class RecordError(UserError):
    """A record cannot be decoded: malformed, or of a version that this release does not know."""


class TaskError(UserError):
    """A task folder is damaged or breaks its format; the message starts with the file at fault."""


class RepositoryError(UserError):
    """A repository cannot be read, or holds nothing that could be mined."""


class CheckpointError(UserError):
    """A model's config or weights are damaged, incomplete, or of an architecture we do not read; names the thing."""


class RequestRefusedError(UserError):
    """A request asks a model for something that it cannot do, or contradicts itself; names the field."""


class OutputFolderError(UserError):
    """An output folder is not empty and not ours, or cannot be written."""


class MissingToolError(UserError):
    """A program, library or kernel feature is missing; the message holds the command that mends it."""


class BoundaryError(EnvfarmError):
    """Something failed that the policy did not cause; it leaves a rollout unscored.

    Attributes:
        code: Short stable word for machines, such as ``sandbox_lost``.
        attribution: Whose fault it is.
        retryable: Whether the same call may succeed when made again.
    """

    code = "boundary"
    attribution = Attribution.FARM
    retryable = True

    def __init__(self, message: str, *, attribution: Attribution | None = None, retryable: bool | None = None) -> None:
        """Take the message, and what differs from the class's own attribution and retryability."""
        super().__init__(message)
        if attribution is not None:
            self.attribution = attribution
        if retryable is not None:
            self.retryable = retryable


class SandboxStartError(BoundaryError):
    """A sandbox could not be made; nothing of it is left."""

    code = "sandbox_start"
    attribution = Attribution.SANDBOX


class EngineUnreachableError(SandboxStartError):
    """The container engine does not answer: it is down, restarting, or overloaded."""

    code = "engine_unreachable"
    attribution = Attribution.FARM


class ContainerImageMissingError(SandboxStartError):
    """An image is not on this machine and in no registry that is reached."""

    code = "container_image_missing"
    attribution = Attribution.TASK
    retryable = False


class ContainerImagePullError(SandboxStartError):
    """An image could not be brought from its registry."""

    code = "container_image_pull"
    attribution = Attribution.FARM


class EngineDiskFullError(SandboxStartError):
    """The container engine has no room left on its disk."""

    code = "engine_disk_full"
    attribution = Attribution.FARM


class SandboxLostError(BoundaryError):
    """A leased sandbox is gone; the lease is void and nothing more can be read from it."""

    code = "sandbox_lost"
    attribution = Attribution.SANDBOX


class SandboxTakenError(BoundaryError):
    """A sandbox is claimed by somebody else; nothing was changed in it.

    Attributes:
        holder: The name of the claim that has it.
    """

    code = "sandbox_taken"
    attribution = Attribution.SANDBOX

    def __init__(self, holder: str) -> None:
        """Take the name of the claim that has the sandbox."""
        super().__init__(f"the sandbox is claimed by {holder!r}")
        self.holder = holder


class SandboxRefusedError(BoundaryError):
    """The agent in a sandbox refused a request, for want of room or since it breaks the protocol."""

    code = "sandbox_refused"
    attribution = Attribution.SANDBOX
    retryable = False


class ImageBuildError(BoundaryError):
    """The image of a task could not be made on this machine; no half-made image is left."""

    code = "image_build"
    attribution = Attribution.TASK


class EngineBusyError(BoundaryError):
    """As many requests wait for the model as may wait; nothing of this one is left."""

    code = "engine_busy"
    attribution = Attribution.MODEL_PROVIDER


class VerifierError(BoundaryError):
    """A verifier crashed, or its answer breaks the contract."""

    code = "verifier_error"
    attribution = Attribution.VERIFIER
    retryable = False


class RewardError(BoundaryError):
    """A task's own verifier left no reward, or one that is none; `code` says which of these."""

    code = "reward_malformed"
    attribution = Attribution.VERIFIER
    retryable = False

    def __init__(self, message: str, *, code: str, attribution: Attribution | None = None) -> None:
        """Take the message, the code, and whose fault it is where it is not the verifier's."""
        super().__init__(message, attribution=attribution)
        self.code = code


def only_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error in nested groups of one, or the innermost group that has several."""
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return inner
