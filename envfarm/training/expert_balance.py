"""Keeps experts equally busy without a loss: a rule moves their correction biases after each step (noaux_tc)."""

import torch
from torch import Tensor

from envfarm.model.experts import MixtureOfExperts
from envfarm.model.mimo import MiMo
from envfarm.model.router import Routing


def expert_loads(routings: tuple[Routing, ...]) -> list[Tensor]:
    """Return each expert's share of a layer's work times the number of experts, [E] in float32; 1 is equal."""
    loads = []
    for routing in routings:
        experts = routing.scores_N_E.shape[1]
        counts_E = routing.chosen_N_K.flatten().bincount(minlength=experts).float()
        loads.append(counts_E * experts / counts_E.sum())
    return loads


@torch.no_grad()
def move_biases(model: MiMo, loads: list[Tensor], step: float) -> None:
    """Move the bias of every expert that has too little work up by `step`, and of one that has too much down."""
    layers = [layer.mlp for layer in model.model.layers if isinstance(layer.mlp, MixtureOfExperts)]
    for layer, load_E in zip(layers, loads, strict=True):
        layer.gate.e_score_correction_bias.add_((1 - load_E).sign(), alpha=step)
