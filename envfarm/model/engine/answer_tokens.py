"""What is told about each token of an answer: its logprob, and the likeliest others."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from envfarm.model.engine.request import GeneratedToken


@dataclass(frozen=True)
class Choice:
    """A token that was chosen.

    Attributes:
        token: Its number.
        row: Which row of logits it was chosen from.
        was_forced: Nothing else was possible.
        top_logprobs: How many of the likeliest tokens to tell.
    """

    token: int
    row: int
    was_forced: bool
    top_logprobs: int


def tell_tokens(logits_N_V: Tensor, choices: Sequence[Choice]) -> list[GeneratedToken]:
    """Return the tokens with what the model thought of them."""
    if not choices:
        return []
    rows = torch.tensor([choice.row for choice in choices], device=logits_N_V.device)
    logprobs_B_V = logits_N_V[rows].log_softmax(-1)
    tokens = torch.tensor([choice.token for choice in choices], device=logits_N_V.device)
    own: list[float] = logprobs_B_V.gather(1, tokens[:, None])[:, 0].tolist()
    most = min(max(choice.top_logprobs for choice in choices), logprobs_B_V.shape[-1])
    best: list[list[tuple[int, float]]] = [[] for _ in choices]
    if most:
        values, places = logprobs_B_V.topk(most, dim=-1)
        best = [list(zip(*pair, strict=True)) for pair in zip(places.tolist(), values.tolist(), strict=True)]
    return [
        GeneratedToken(
            token=choice.token,
            logprob=logprob,
            was_forced=choice.was_forced,
            top=tuple(top[: choice.top_logprobs]),
        )
        for choice, logprob, top in zip(choices, own, best, strict=True)
    ]
