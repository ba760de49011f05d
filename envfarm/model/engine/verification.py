"""Accepts or rejects guessed tokens so that answers are distributed as without guesses.

A guess x that was drawn from q is accepted with probability min(1, p(x) / q(x)); the first that is rejected is replaced
by a draw from max(p - q, 0), normalised (Leviathan et al., arXiv 2211.17192, section 2.3). Every luck is a function of
the request's seed and the place in its answer, and each is used once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from envfarm.model.engine.logit_changes import Before, change_logits
from envfarm.model.engine.sampling import Draw, luck, pick, token_probabilities


def verify_drafts(
    logits_T_V: Tensor, drafts: Sequence[int], draft_probabilities: Tensor | None, draw: Draw
) -> list[int]:
    """Return the tokens that follow: accepted guesses, and one more that the main model decides.

    Args:
        logits_T_V: The main model's; row i after i guesses, T = guesses + 1.
        drafts: Guessed tokens.
        draft_probabilities: What each was drawn from, [guesses, V]; None where the likeliest was taken.
        draw: How tokens are drawn, and where in the answer the first guess would stand.
    """
    sampling, place = draw.sampling, draw.place
    # Each place has the penalties of the guesses before it: it is looked at only if all of those were accepted.
    known = [[*draw.tokens, *drafts[:step]] if sampling.penalises else () for step in range(len(drafts) + 1)]
    logits_T_V = change_logits(
        logits_T_V, [Before(sampling, tokens, place + step) for step, tokens in enumerate(known)]
    )
    if draft_probabilities is None:
        return verify_likeliest(logits_T_V.argmax(-1).tolist(), drafts)
    wanted_T_V = token_probabilities(logits_T_V, [sampling] * logits_T_V.shape[0])
    for step, draft in enumerate(drafts):
        wanted_V, drawn_V = wanted_T_V[step], draft_probabilities[step]
        if not _accepts(float(wanted_V[draft]), float(drawn_V[draft]), luck(sampling.seed, place + step, "accept")):
            return [*drafts[:step], _pick(_left(wanted_V, drawn_V), luck(sampling.seed, place + step, "instead"))]
    return [*drafts, _pick(wanted_T_V[-1], luck(sampling.seed, place + len(drafts)))]


def verify_likeliest(wanted: Sequence[int], drafts: Sequence[int]) -> list[int]:
    """Return the tokens that follow greedily: `wanted` is the main model's likeliest token after each guess."""
    right = next((step for step, draft in enumerate(drafts) if wanted[step] != draft), len(drafts))
    return list(wanted[: right + 1])


def _accepts(wanted: float, drawn: float, chance: float) -> bool:
    return chance * drawn < wanted


def _left(wanted_V: Tensor, drawn_V: Tensor) -> Tensor:
    """Return what a replacement is drawn from, not normalised."""
    left_V = (wanted_V - drawn_V).clamp(min=0)
    return left_V if bool(left_V.sum() > 0) else wanted_V  # rounding may leave nothing


def _pick(probabilities_V: Tensor, chance: float) -> int:
    lucks = torch.tensor([chance], dtype=torch.float64, device=probabilities_V.device)
    return int(pick(probabilities_V[None], lucks))
