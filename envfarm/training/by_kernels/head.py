"""The head with its loss: logits exist once, and become their own gradient where they lie."""

from typing import Any

import torch
from torch import Tensor

from envfarm.model.kernels.training_structures import Surprise
from envfarm.training.by_kernels.calls import Calls, fill


def mean_loss(calls: Calls, hidden_N_D: Tensor, weight_V_D: Tensor, targets_N: Tensor) -> Tensor:
    """Return the mean nats of the tokens whose target is not negative; 0 where there are none.

    Gradients of hidden states and weights are computed at once, while the logits are there: backward only scales them.

    Raises:
        IndexError: A target is no token of the vocabulary.
    """
    if len(targets_N) and int(targets_N.max()) >= len(weight_V_D):
        message = f"a target is {int(targets_N.max())}: the vocabulary has {len(weight_V_D)} tokens"
        raise IndexError(message)
    mean: Tensor = _Losses.apply(calls, hidden_N_D, weight_V_D, targets_N.contiguous())
    return mean


class _Losses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, calls: Calls, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        wants = any(ctx.needs_input_grad)
        narrow = weight.to(hidden.dtype)
        logits = calls.logits_room(len(hidden), len(narrow), hidden.dtype)
        torch.mm(hidden, narrow.t(), out=logits)
        share = 1 / max(int((targets >= 0).sum()), 1)
        distances, totals = torch.empty(len(hidden)), torch.empty(len(hidden))
        surprise = fill(
            Surprise,
            logits,
            logits=logits,
            targets=targets,
            distances=distances,
            totals=totals,
            vocabulary=logits.shape[1],
            share=share,
            wants_gradient=int(wants),
        )
        calls.share("envfarm_surprise", surprise, len(hidden), fewest=16)
        if wants:
            ctx.save_for_backward(logits @ narrow, logits.t() @ hidden)
        return (distances + totals.log()).sum() * share

    @staticmethod
    def backward(ctx: Any, of_mean: Tensor) -> tuple[Tensor | None, ...]:
        of_hidden, of_weight = ctx.saved_tensors
        return None, of_hidden * of_mean, of_weight.float() * of_mean, None
