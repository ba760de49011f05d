"""AdamW as the report has it: betas 0.9 and 0.95, epsilon 1e-8, decay for matrices and none for norms and sinks."""

import torch

from envfarm.model.mimo import MiMo
from envfarm.training.presets import Recipe

BETAS, EPSILON = (0.9, 0.95), 1e-8


def make_optimiser(model: MiMo, recipe: Recipe) -> torch.optim.AdamW:
    """Return the optimiser of all parameters; correction biases are no parameters and stay out of it."""
    every = list(model.parameters())
    matrices = [parameter for parameter in every if parameter.dim() > 1]
    vectors = [parameter for parameter in every if parameter.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.schedule.peak, betas=BETAS, eps=EPSILON, fused=True)


def count_zero_gradients(model: MiMo) -> int:
    """Return how many numbers have no gradient: rising means experts out of balance, falling means overfitting."""
    zeros = 0
    for parameter in model.parameters():
        gradient = parameter.grad
        zeros += parameter.numel() if gradient is None else parameter.numel() - int(gradient.count_nonzero())
    return zeros
