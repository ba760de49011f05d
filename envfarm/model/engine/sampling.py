"""Draws tokens from logits. Luck is a function of seed and place: neighbours in a batch cannot change it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from envfarm.model.engine.logit_changes import Before, change_logits
from envfarm.model.engine.request import AllBut, Sampling

_LUCK_BITS = 53
"""As many as a float's fraction has."""


@dataclass(frozen=True)
class Draw:
    """One row's wish.

    Attributes:
        sampling: How to draw.
        place: Which token of its answer this is, from 0.
        allowed: The only tokens that may come; None for all.
        tokens: Prompt and answer up to here, for penalties.
    """

    sampling: Sampling
    place: int
    allowed: tuple[int, ...] | AllBut | None = None
    tokens: Sequence[int] = ()

    @property
    def is_forced(self) -> bool:
        """Whether only one token may come."""
        return isinstance(self.allowed, tuple) and len(self.allowed) == 1

    @property
    def before(self) -> Before:
        """Where the token is drawn."""
        return Before(self.sampling, self.tokens, self.place)


def luck(seed: int, place: int, purpose: str = "token") -> float:
    """Return a number in [0, 1) that depends on these three and on nothing else."""
    digest = hashlib.blake2b(f"{seed}/{place}/{purpose}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> (64 - _LUCK_BITS)) / (1 << _LUCK_BITS)


def draw_tokens(logits_B_V: Tensor, draws: Sequence[Draw]) -> list[int]:
    """Return one token for each row; rows are independent of one another."""
    logits = change_logits(logits_B_V.float(), [draw.before for draw in draws])
    restricted = [(row, draw.allowed) for row, draw in enumerate(draws) if draw.allowed is not None]
    if restricted:
        logits = logits.clone()
        for row, allowed in restricted:
            _restrict(logits[row], allowed)
    tokens = logits.argmax(-1)
    drawn = [row for row, draw in enumerate(draws) if draw.sampling.temperature > 0]
    if drawn:
        kept = [draws[row] for row in drawn]
        probabilities = token_probabilities(logits[drawn], [draw.sampling for draw in kept])
        lucks = torch.tensor([luck(draw.sampling.seed, draw.place) for draw in kept], dtype=torch.float64)
        tokens[drawn] = pick(probabilities, lucks.to(logits.device))
    chosen: list[int] = tokens.tolist()
    return chosen


def token_probabilities(logits_B_V: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """Return what tokens are drawn from, [B, V] in float64, after temperature, top-k and top-p; each row sums to 1.

    A temperature of 0 gives all to the likeliest token.
    """
    temperatures = [sampling.temperature or 1.0 for sampling in samplings]
    scale = torch.tensor(temperatures, dtype=torch.float64, device=logits_B_V.device)
    below_B_V = logits_B_V.double() - logits_B_V.amax(-1, keepdim=True).double()  # a tiny scale makes no infinity of 0
    probabilities = (below_B_V / scale[:, None]).softmax(-1)
    for row, sampling in enumerate(samplings):
        if sampling.temperature == 0:
            probabilities[row] = torch.zeros_like(probabilities[row])
            probabilities[row, logits_B_V[row].argmax()] = 1.0
        elif sampling.top_k or sampling.top_p < 1:
            probabilities[row] = _truncated(probabilities[row], sampling)
    return probabilities


def pick(probabilities_B_V: Tensor, lucks_B: Tensor) -> Tensor:
    """Return for each row the first token at which the sum of probabilities exceeds the row's luck."""
    sums = probabilities_B_V.cumsum(-1)
    chosen = torch.searchsorted(sums, (lucks_B * sums[:, -1])[:, None], right=True)[:, 0]
    # Rounding must not pick a token behind the last one that can come.
    last = probabilities_B_V.shape[-1] - 1 - (probabilities_B_V.flip(-1) > 0).int().argmax(-1)
    return torch.minimum(chosen, last)


def _restrict(logits_V: Tensor, allowed: tuple[int, ...] | AllBut) -> None:
    """Leave only the allowed tokens, in place."""
    if isinstance(allowed, AllBut):
        forbidden = torch.tensor(sorted(allowed.forbidden), dtype=torch.int64, device=logits_V.device)
        logits_V[forbidden] = float("-inf")
        return
    tokens = torch.tensor(allowed, dtype=torch.int64, device=logits_V.device)
    kept = logits_V[tokens]
    logits_V.fill_(float("-inf"))
    logits_V[tokens] = kept


def _truncated(probabilities_V: Tensor, sampling: Sampling) -> Tensor:
    ordered, tokens = probabilities_V.sort(descending=True, stable=True)
    kept = torch.ones_like(ordered, dtype=torch.bool)
    if sampling.top_k:
        kept[sampling.top_k :] = False
    shares = torch.where(kept, ordered, 0.0)
    before = shares.cumsum(0) - shares
    # A token stays while those before it do not reach top_p of what top-k left: the first one always stays.
    kept &= before < sampling.top_p * shares.sum()
    kept[0] = True
    left = torch.zeros_like(probabilities_V)
    left[tokens[kept]] = ordered[kept]
    return left / left.sum()
