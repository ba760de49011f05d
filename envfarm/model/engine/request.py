"""What is asked of the engine, and what it says while it answers. PURE."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class AllBut:
    """Every token may follow but these: where few are forbidden, listing all others in each step would take long."""

    forbidden: frozenset[int]


Constraint = Callable[[Sequence[int]], Collection[int] | AllBut | None]
"""Takes the tokens generated so far, returns those that may follow; None where all may, nothing where none may."""
MOST_TOP_LOGPROBS = 20
MOST_STOP_TEXTS = 16
MOST_STOP_TEXT_CHARACTERS = 1_024


class Finish(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    DEAD_END = "dead_end"
    """The constraint allowed no token."""
    NOT_FINITE = "not_finite"
    """The model's numbers were not finite; only this request ends."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: 0 takes the likeliest token always.
        top_p: Only the likeliest tokens whose sum of probabilities reaches this.
        top_k: Only so many of the likeliest; 0 for all. Applied before `top_p`.
        seed: The same seed gives the same tokens, whatever else is in the batch, but for what rounding in products
            of other shapes may change.
        presence_penalty: Taken from the logit of each token that the answer has already.
        frequency_penalty: Taken from it as often as the answer has it.
        repetition_penalty: Divides positive logits of tokens that prompt or answer have, and multiplies negative ones.
        logit_bias: Tokens, and what is added to the logit of each.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    @property
    def penalises(self) -> bool:
        """Whether logits depend on the tokens that came before."""
        return bool(self.presence_penalty or self.frequency_penalty) or self.repetition_penalty != 1

    @property
    def changes_logits(self) -> bool:
        """Whether tokens are drawn from other logits than the model's."""
        return self.penalises or bool(self.logit_bias)

    @property
    def takes_likeliest(self) -> bool:
        """Whether every token is the likeliest of the model's own logits."""
        return not self.temperature and not self.changes_logits


@dataclass(frozen=True, kw_only=True)
class Request:
    """One answer to generate.

    Attributes:
        prompt: Tokens; at least one.
        most_tokens: The answer's limit.
        sampling: How tokens are drawn.
        stop_tokens: The answer ends with one of these; it belongs to the answer's tokens, and not to its text.
        stop_texts: The answer ends where its text holds one of these; the text ends before it. At most
            `MOST_STOP_TEXTS`, of `MOST_STOP_TEXT_CHARACTERS` each: every token is compared with all of them.
        forced: The answer's first tokens, given instead of drawn.
        constraint: Which tokens may follow, step by step.
        top_logprobs: How many of the likeliest tokens to tell at each step.
        routing_wanted: Tell the experts of every token that went through the model.
        conversation: A later request that names the same conversation, and whose prompt goes on from this prompt and
            answer, computes its new tokens only. None keeps nothing.
    """

    prompt: tuple[int, ...]
    most_tokens: int
    sampling: Sampling = Sampling()
    stop_tokens: frozenset[int] = frozenset()
    stop_texts: tuple[str, ...] = ()
    forced: tuple[int, ...] = ()
    constraint: Constraint | None = None
    top_logprobs: int = 0
    routing_wanted: bool = False
    conversation: str | None = None


@dataclass(frozen=True, kw_only=True)
class GeneratedToken:
    """One token of an answer.

    Attributes:
        token: Its number.
        logprob: Under the model, at temperature 1 and before bias, penalties, top-k, top-p and the constraint.
        was_forced: It was given, or the only one that the constraint allowed: not the model's choice.
        top: The likeliest tokens and their logprobs, likeliest first.
    """

    token: int
    logprob: float
    was_forced: bool = False
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What an answer cost.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        reused_tokens: How many of them were there from an earlier turn.
        prefilled_tokens: How many went through the model before the first token came; more than the rest of the
            prompt where memory was short and had to be filled again.
        generated_tokens: Tokens of the answer.
    """

    prompt_tokens: int
    reused_tokens: int
    prefilled_tokens: int
    generated_tokens: int


@dataclass(frozen=True, kw_only=True)
class Routing:
    """Experts of every token but the last, in the order of the tokens, prompt included.

    Attributes:
        experts: uint8 [tokens, layers, k] in row-major order; layers without experts have zeros.
        shape: Its three sizes.
    """

    experts: bytes
    shape: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a step brought for one request.

    Attributes:
        request_id: Which.
        tokens: New tokens.
        text: New text: what cannot become part of a stop text any more.
        finish: Set in the last one.
        usage: Set in the last one.
        routing: Set in the last one, if it was asked for.
    """

    request_id: int
    tokens: tuple[GeneratedToken, ...] = ()
    text: str = ""
    finish: Finish | None = None
    usage: Usage | None = None
    routing: Routing | None = None
