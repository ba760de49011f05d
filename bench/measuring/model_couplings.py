"""How often a guess is right under rejection sampling, and under noise shared by guess and model, place by place.

Both shares are computed from the distributions that a verification compares, at the places that it reaches: no luck is
involved but that of the answers themselves.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from envfarm.model.engine import engine as engine_module
from envfarm.model.engine.engine import Engine
from envfarm.model.engine.request import Request, Sampling
from envfarm.model.engine.sampling import Draw, token_probabilities

_ANSWER, _PROMPT, _PROMPTS = 64, 64, 24


@dataclass
class _Shares:
    rejection: list[float] = field(default_factory=list)
    shared_noise: list[float] = field(default_factory=list)


def coupling_rows(engine: Engine, documents: Mapping[str, Sequence[Sequence[int]]]) -> Iterator[str]:
    """Yield a line for each domain; the engine has to guess."""
    verify: Any = engine_module.verify_drafts
    for domain in sorted(documents):
        shares = _Shares()

        def noting(
            logits: Tensor, drafts: Sequence[int], drawn_from: Tensor, draw: Draw, shares: _Shares = shares
        ) -> list[int]:
            found: list[int] = verify(logits, drafts, drawn_from, draw)
            wanted = token_probabilities(logits, [draw.sampling] * len(logits))
            for place in range(min(len(found), len(drafts))):
                shares.rejection.append(float(torch.minimum(wanted[place], drawn_from[place]).sum()))
                shares.shared_noise.append(agreement(wanted[place], drawn_from[place]))
            return found

        engine_module.verify_drafts = noting  # type: ignore[assignment]
        try:
            prompts = [tokens[:_PROMPT] for tokens in documents[domain] if len(tokens) > _PROMPT][::7][:_PROMPTS]
            for place, prompt in enumerate(prompts):
                engine.submit(Request(prompt=tuple(prompt), most_tokens=_ANSWER, sampling=Sampling(seed=place)))
            while engine.has_work:
                engine.step()
        finally:
            engine_module.verify_drafts = verify
        count = len(shares.rejection)
        yield (
            f"guesses that are right, {domain}: {sum(shares.rejection) / count:.3f} by rejection sampling, "
            f"{sum(shares.shared_noise) / count:.3f} with shared noise, {count} places"
        )


def agreement(p: Tensor, q: Tensor) -> float:
    """Return how often Gumbel-max with the same noise draws the same token from two distributions.

    It is the sum over x of 1 / sum over y of max(p(y) / p(x), q(y) / q(x)): the token x wins both races if its arrival,
    exponential with rate 1, comes before those of all others in either.
    """
    both = (p > 0) & (q > 0)
    ratio = torch.where(p > 0, p, 0) / q.clamp(min=torch.finfo(q.dtype).tiny)
    order = ratio.argsort()
    wanted, drawn = p[order], q[order]
    # Of x in this order, q(y) / q(x) is the greater one for all y before it, p(y) / p(x) from it on.
    from_here = wanted.flip(0).cumsum(0).flip(0)
    before = drawn.cumsum(0) - drawn
    kept = both[order]
    return float((1 / (from_here[kept] / wanted[kept] + before[kept] / drawn[kept])).sum())
