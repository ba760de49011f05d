"""What a request changes in the model's logits before a token is drawn: penalties for tokens that came, and biases.

Presence and frequency penalties and biases are OpenAI's (API reference, "logit bias" and "frequency and presence
penalties"): logit - count * frequency - (count > 0) * presence + bias, with counts over the answer only. The repetition
penalty is that of Keskar et al. (arXiv 1909.05858, section 4.1), over prompt and answer; it comes first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from envfarm.model.engine.request import Sampling


@dataclass(frozen=True)
class Before:
    """Where a token is drawn.

    Attributes:
        sampling: The request's wishes.
        tokens: Prompt and answer up to here; they are read only if `sampling.penalises`.
        answered: How many of them, at the end, are the answer's.
    """

    sampling: Sampling
    tokens: Sequence[int]
    answered: int


def change_logits(logits_B_V: Tensor, before: Sequence[Before]) -> Tensor:
    """Return what tokens are drawn from, row by row; the very tensor where no row changes anything."""
    rows = [row for row, one in enumerate(before) if one.sampling.changes_logits]
    if not rows:
        return logits_B_V
    changed_B_V = logits_B_V.clone()
    for row in rows:
        _change(changed_B_V[row], before[row])
    return changed_B_V


def _change(logits_V: Tensor, before: Before) -> None:
    sampling, tokens, device = before.sampling, before.tokens, logits_V.device
    if sampling.repetition_penalty != 1:
        seen = torch.tensor(sorted(set(tokens)), dtype=torch.int64, device=device)
        values = logits_V[seen]
        penalty = sampling.repetition_penalty
        logits_V[seen] = torch.where(values > 0, values / penalty, values * penalty)
    if sampling.frequency_penalty or sampling.presence_penalty:
        answer = torch.tensor(tokens[len(tokens) - before.answered :], dtype=torch.int64)
        counts_V = answer.bincount(minlength=len(logits_V)).to(device)
        logits_V -= counts_V * sampling.frequency_penalty + (counts_V > 0) * sampling.presence_penalty
    if sampling.logit_bias:
        biased, biases = zip(*sampling.logit_bias, strict=True)
        where = torch.tensor(biased, dtype=torch.int64, device=device)
        logits_V.index_add_(0, where, torch.tensor(biases, dtype=logits_V.dtype, device=device))
