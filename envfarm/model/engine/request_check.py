"""What a request may not ask for. PURE."""

from envfarm.model.config import MiMoConfig
from envfarm.model.engine.request import (
    MOST_STOP_TEXT_CHARACTERS,
    MOST_STOP_TEXTS,
    MOST_TOP_LOGPROBS,
    Request,
    Sampling,
)

MOST_EXPERTS = 256
"""An expert's number has to fit into a byte."""
_MOST_TEMPERATURE = 100.0
"""Higher is uniform anyway."""
_MOST_PENALTY = 2.0
_MOST_BIAS = 100.0
_MOST_REPETITION = 10.0


def complaints_about(request: Request, config: MiMoConfig, context_tokens: int) -> list[str]:
    """Return what is wrong with a request, worst first; nothing if it can be done."""
    found = []
    if not request.prompt:
        found.append("the prompt is empty")
    if request.most_tokens < 1:
        found.append("an answer has to have at least one token")
    if len(request.prompt) + request.most_tokens > context_tokens:
        found.append(
            f"the prompt has {len(request.prompt):,} tokens and the answer may have {request.most_tokens:,}: "
            f"that is more than {context_tokens:,}, the longest that fits"
        )
    given = (*request.prompt, *request.forced)
    if given and not 0 <= min(given) <= max(given) < config.vocab_size:
        found.append(f"a token is not one of the {config.vocab_size:,} of the vocabulary")
    if not 0 <= request.top_logprobs <= MOST_TOP_LOGPROBS:
        found.append(f"top_logprobs has to be from 0 to {MOST_TOP_LOGPROBS}")
    if len(request.stop_texts) > MOST_STOP_TEXTS or any(map(_is_too_long, request.stop_texts)):
        found.append(
            f"there may be {MOST_STOP_TEXTS} stop texts, each of at most {MOST_STOP_TEXT_CHARACTERS:,} characters: "
            f"{len(request.stop_texts)} are given, the longest with {max(map(len, request.stop_texts)):,}"
        )
    if not _can_sample(request.sampling):
        found.append(
            f"temperature has to be from 0 to {_MOST_TEMPERATURE:g}, top_p above 0 and at most 1, top_k at least 0"
        )
    found += _complaints_about_changes(request.sampling, config.vocab_size)
    if request.routing_wanted and not 0 < config.n_routed_experts <= MOST_EXPERTS:
        found.append(f"routed experts are told of models with 1 to {MOST_EXPERTS} experts")
    return found


def _complaints_about_changes(sampling: Sampling, vocabulary: int) -> list[str]:
    found = [
        f"{name} has to be from -{_MOST_PENALTY:g} to {_MOST_PENALTY:g}"
        for name in ("presence_penalty", "frequency_penalty")
        if not abs(getattr(sampling, name)) <= _MOST_PENALTY
    ]
    if not 1 / _MOST_REPETITION <= sampling.repetition_penalty <= _MOST_REPETITION:
        found.append(f"repetition_penalty has to be from {1 / _MOST_REPETITION:g} to {_MOST_REPETITION:g}")
    if not all(abs(bias) <= _MOST_BIAS for _, bias in sampling.logit_bias):
        found.append(f"a logit_bias has to be from -{_MOST_BIAS:g} to {_MOST_BIAS:g}")
    if not all(0 <= token < vocabulary for token, _ in sampling.logit_bias):
        found.append(f"logit_bias: a token is not one of the {vocabulary:,} of the vocabulary")
    return found


def _is_too_long(stop_text: str) -> bool:
    return len(stop_text) > MOST_STOP_TEXT_CHARACTERS


def _can_sample(sampling: Sampling) -> bool:
    return 0 <= sampling.temperature <= _MOST_TEMPERATURE and 0 < sampling.top_p <= 1 and sampling.top_k >= 0
