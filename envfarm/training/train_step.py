"""One step of pretraining: losses, gradients, weights, biases; the same numbers whenever it is done again."""

from dataclasses import dataclass

import torch
from torch import nn

from envfarm.model.mimo import MiMo
from envfarm.training.by_kernels.calls import Calls
from envfarm.training.by_kernels.losses import KernelLosses
from envfarm.training.expert_balance import expert_loads, move_biases
from envfarm.training.losses import compute_losses
from envfarm.training.optimiser import count_zero_gradients
from envfarm.training.packing import Batch
from envfarm.training.presets import Recipe


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a step did.

    Attributes:
        step: Its number, from 0.
        loss: Of the next token, nats of each token.
        mtp_losses: Of the MTP blocks.
        balance: The balance loss; 1 is equal work.
        learning_rate: Its learning rate.
        gradient_norm: Before clipping.
        zero_gradients: How many numbers had no gradient.
        loads: For each layer with experts, each expert's share of the work times the number of experts.
    """

    step: int
    loss: float
    mtp_losses: list[float]
    balance: float
    learning_rate: float
    gradient_norm: float
    zero_gradients: int
    loads: list[list[float]]


def train_step(
    model: MiMo,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    recipe: Recipe,
    step: int,
    dtype: torch.dtype,
    calls: Calls | None = None,
) -> StepReport:
    """Change the weights by one step. If it raises, weights and optimiser may be of different steps.

    Args:
        model: The model.
        optimiser: Of its weights.
        batch: The rows of this step.
        recipe: How the model is trained.
        step: The step's number.
        dtype: What products are computed in.
        calls: The kernels that compute losses and gradients; None for torch alone.
    """
    schedule = recipe.schedule
    first = step * recipe.mtp_rows % recipe.rows if recipe.mtp_rows else 0
    rate = schedule.learning_rate(step)
    for group in optimiser.param_groups:
        group["lr"] = rate
    mtp_rows = slice(first, first + recipe.mtp_rows)
    if calls is not None:
        losses = KernelLosses(calls, model, dtype).compute(batch, mtp_rows)
    else:
        with torch.autocast(batch.tokens_B_T.device.type, dtype=dtype, enabled=dtype is not torch.float32):
            losses = compute_losses(model, batch, mtp_rows)
    total = losses.main + recipe.balance_weight * losses.balance
    if losses.mtp:
        total = total + schedule.mtp_weight(step) * torch.stack(losses.mtp).mean()
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(total)
    zeros = count_zero_gradients(model)
    norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip, error_if_nonfinite=True)
    optimiser.step()
    loads = expert_loads(losses.routings)
    move_biases(model, loads, recipe.bias_step)
    return StepReport(
        step=step,
        loss=float(losses.main.detach()),
        mtp_losses=[float(loss.detach()) for loss in losses.mtp],
        balance=float(losses.balance.detach()),
        learning_rate=rate,
        gradient_norm=float(norm),
        zero_gradients=zeros,
        loads=[[round(share, 4) for share in load.tolist()] for load in loads],
    )
