"""A trajectory: what a policy said and did on a task, turn by turn. Shape only: nothing writes one yet."""

from enum import StrEnum

from envfarm.records.versioned import Part, Record


class Role(StrEnum):
    """Who speaks in a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ToolCall(Part, frozen=True, kw_only=True):
    """One action asked for by the policy; `arguments` is the JSON text exactly as it was sent."""

    call_id: str
    name: str
    arguments: str


class Turn(Part, frozen=True, kw_only=True):
    """One message of the conversation, with what was measured of it."""

    role: Role
    content: str = ""
    reasoning_content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None
    """For a tool's answer: the call that it answers."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


class StopReason(StrEnum):
    """Why a rollout ended; each of these can be graded."""

    FINISHED = "finished"
    TURN_LIMIT = "turn_limit"
    TOKEN_LIMIT = "token_limit"  # noqa: S105 -- a budget of tokens, not a secret
    TIME_LIMIT = "time_limit"


class Trajectory(Record, frozen=True, kw_only=True, tag="envfarm.trajectory/1"):
    """One rollout of one policy on one task."""

    trajectory_id: str
    task_id: str
    policy: str
    turns: tuple[Turn, ...] = ()
    stop_reason: StopReason | None = None
