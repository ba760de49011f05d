"""What an engine may use, and what it has done. PURE."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EngineLimits:
    """What an engine may use.

    Attributes:
        running: Requests that generate at the same time.
        kept_conversations: Conversations whose keys and values are kept for a later turn; the one that was not used
            for the longest time goes first, and earlier when memory is short.
        capacity_tokens: Tokens of all requests and kept conversations together, in global layers.
        context_tokens: Most tokens of one request, answer included; at most what the model was made for.
        chunk_tokens: Most tokens of prompts in one step: a long prompt does not make the others wait.
        draft_tokens: How many tokens MTP blocks guess ahead; 0 for none.
        kernels: Whether our kernels may run a model that they can run; else torch does.
    """

    running: int = 32
    kept_conversations: int = 32
    capacity_tokens: int = 65_536
    context_tokens: int = 32_768
    chunk_tokens: int = 512
    draft_tokens: int = 0
    kernels: bool = True


@dataclass
class EngineCounts:
    """What an engine has done since it was made.

    Attributes:
        steps: Forward passes of the main model.
        prefilled_tokens: Tokens of prompts that went through the model, anew after a pre-emption included.
        reused_tokens: Tokens of prompts whose keys and values were there from an earlier turn.
        generated_tokens: Tokens of answers.
        drafted_tokens: Guesses of MTP blocks that were verified.
        accepted_tokens: How many of them were right.
        preemptions: How often a request had to give its memory to an older one.
        finished: Requests that ended, cancelled ones included.
    """

    steps: int = 0
    prefilled_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    preemptions: int = 0
    finished: int = 0
