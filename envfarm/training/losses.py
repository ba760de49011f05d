"""What a step minimises: the next token, the tokens that MTP blocks predict, and a little balance of experts.

No loss crosses the border of a document.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from envfarm.model.layout import Layout
from envfarm.model.mimo import MiMo
from envfarm.model.router import Routing
from envfarm.training.packing import Batch

_LEFT_OUT = -100


@dataclass(frozen=True)
class Losses:
    """Mean losses in nats of each token.

    Attributes:
        main: Of the next token.
        mtp: Of each block's token; empty where no row trains the blocks.
        balance: How unequal work is within sequences; 1 is equal.
        routings: Where the tokens went, for every layer that has experts.
    """

    main: Tensor
    mtp: tuple[Tensor, ...]
    balance: Tensor
    routings: tuple[Routing, ...]


def targets_ahead(batch: Batch, ahead: int) -> Tensor:
    """Return what comes `ahead` tokens later in the same document, [B, T - ahead]; -100 where nothing does."""
    is_same = batch.documents_B_T[:, ahead:] == batch.documents_B_T[:, : batch.documents_B_T.shape[1] - ahead]
    return torch.where(is_same, batch.tokens_B_T[:, ahead:], _LEFT_OUT)


def compute_losses(model: MiMo, batch: Batch, mtp_rows: slice) -> Losses:
    """Return the losses of a batch, with gradients.

    Args:
        model: The model; under autocast if so wished.
        batch: Packed rows.
        mtp_rows: Which rows also train the MTP blocks.
    """
    layout = Layout.packed(batch.documents_B_T)
    result = model(batch.tokens_B_T, layout)
    main = _cross_entropy(model, result.hidden_B_T_D[:, :-1], targets_ahead(batch, 1))
    part = Batch(batch.tokens_B_T[mtp_rows], batch.documents_B_T[mtp_rows])
    mtp: tuple[Tensor, ...] = ()
    if len(part.tokens_B_T):
        hidden = model.predict_all_further(
            part.tokens_B_T, result.hidden_B_T_D[mtp_rows], Layout.packed(part.documents_B_T)
        )
        mtp = tuple(
            _cross_entropy(model, further[:, :-1], targets_ahead(part, 2 + block))
            for block, further in enumerate(hidden)
        )
    balance = balance_loss(result.routings, len(batch.tokens_B_T), main)
    return Losses(main, mtp, balance, result.routings)


def _cross_entropy(model: MiMo, hidden_B_T_D: Tensor, targets_B_T: Tensor) -> Tensor:
    logits_N_V: Tensor = model.lm_head(hidden_B_T_D.flatten(0, 1))
    targets_N = targets_B_T.flatten()
    summed = functional.cross_entropy(logits_N_V.float(), targets_N, ignore_index=_LEFT_OUT, reduction="sum")
    return summed / (targets_N != _LEFT_OUT).sum().clamp(min=1)


def balance_loss(routings: tuple[Routing, ...], rows: int, like: Tensor) -> Tensor:
    """Return the mean over layers and rows of sum(share of work times mean score), times experts."""
    found = []
    for routing in routings:
        scores_B_T_E = routing.scores_N_E.view(rows, -1, routing.scores_N_E.shape[-1])
        experts = scores_B_T_E.shape[-1]
        mean_B_E = (scores_B_T_E / scores_B_T_E.sum(-1, keepdim=True)).mean(1)
        chosen = functional.one_hot(routing.chosen_N_K.view(rows, -1, routing.chosen_N_K.shape[-1]), experts)
        share_B_E = chosen.float().mean((1, 2))
        found.append((share_B_E * mean_B_E).sum(-1).mean() * experts)
    return torch.stack(found).mean() if found else like.new_zeros(())
