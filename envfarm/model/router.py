"""The router: which experts a token goes to, and with which weights; always in float32.

s = sigmoid(x W). The chosen are the highest of s + correction bias; their weights are s without the bias, normalised.
The bias is no parameter: a trainer moves it by a rule, so that experts get equal work (noaux_tc).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from envfarm.model.config import MiMoConfig

_NO_ZERO = 1e-20


@dataclass(frozen=True)
class Routing:
    """Where tokens went.

    Attributes:
        chosen_N_K: Numbers of the experts, highest score first; int64.
        weights_N_K: Shares of their outputs; float32.
        scores_N_E: s of every expert, for auxiliary losses and counts; float32.
    """

    chosen_N_K: Tensor
    weights_N_K: Tensor
    scores_N_E: Tensor


class Router(nn.Module):
    """Chooses experts. Stays in float32 when built in another dtype; do not cast it with `Module.to(dtype)`."""

    e_score_correction_bias: Tensor

    def __init__(self, config: MiMoConfig, *, device: torch.device | str | None = None) -> None:
        super().__init__()
        size = config.n_routed_experts, config.hidden_size
        self.weight = nn.Parameter(torch.zeros(size, dtype=torch.float32, device=device))
        bias = torch.zeros(config.n_routed_experts, dtype=torch.float32, device=device)
        self.register_buffer("e_score_correction_bias", bias)
        self.chosen = config.num_experts_per_tok
        self.is_normalised = config.norm_topk_prob
        self.scaling = config.routed_scaling_factor

    def forward(self, x_N_D: Tensor, replayed_N_K: Tensor | None = None) -> Routing:
        """Return the routing; with `replayed_N_K` the choice is given, and only the weights are computed."""
        with torch.autocast(x_N_D.device.type, enabled=False):
            scores = functional.linear(x_N_D.float(), self.weight.float()).sigmoid()
            chosen = replayed_N_K
            if chosen is None:
                chosen = (scores.detach() + self.e_score_correction_bias).topk(self.chosen, dim=-1).indices
            weights = scores.gather(1, chosen)
            if self.is_normalised:
                weights = weights / (weights.sum(-1, keepdim=True) + _NO_ZERO)
            return Routing(chosen, weights * self.scaling, scores)
