"""A layer of experts: a router, and the weights of all its experts in two tensors.

The state dict speaks the checkpoint's names (`experts.{e}.gate_proj.weight`); in memory there are two tensors.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from envfarm.model.config import MiMoConfig
from envfarm.model.router import Router, Routing


class Experts(nn.Module):
    """The weights of all experts of a layer.

    Attributes:
        gate_up_proj: [E, 2F, D], each expert's gate rows and then its up rows.
        down_proj: [E, D, F].
    """

    def __init__(
        self, config: MiMoConfig, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        experts, inner, hidden = config.n_routed_experts, config.moe_intermediate_size, config.hidden_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, hidden, dtype=dtype, device=device))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, inner, dtype=dtype, device=device))

    def forward(self, x_N_D: Tensor, routing: Routing) -> Tensor:
        """Return the weighted sum of each token's experts, [N, D]; experts that nobody chose cost nothing."""
        tokens, chosen = routing.chosen_N_K.shape
        expert_P = routing.chosen_N_K.flatten()
        order = expert_P.argsort(stable=True)
        counts: list[int] = expert_P.bincount(minlength=self.down_proj.shape[0]).tolist()
        sorted_x = x_N_D[order // chosen]
        # Their gradients are stacked once; indexing would add up a tensor of all experts for each one.
        gate_ups, downs = self.gate_up_proj.unbind(), self.down_proj.unbind()
        outputs, start = [], 0
        for expert, count in enumerate(counts):
            if count:
                part = sorted_x[start : start + count]
                inner = _gated(functional.linear(part, gate_ups[expert]))
                outputs.append(functional.linear(inner, downs[expert]))
            start += count
        outputs_N_K_D = torch.cat(outputs)[order.argsort()].view(tokens, chosen, -1)
        weighted = outputs_N_K_D * routing.weights_N_K[..., None].to(outputs_N_K_D.dtype)
        return weighted.sum(1).to(x_N_D.dtype)

    def _views(self, *, keep_vars: bool) -> Iterator[tuple[str, Tensor]]:
        """Yield every expert's matrices by the checkpoint's names; they share memory with the stacked ones."""
        gate_up, down = (part if keep_vars else part.detach() for part in (self.gate_up_proj, self.down_proj))
        half = gate_up.shape[1] // 2
        for expert in range(down.shape[0]):
            yield f"{expert}.gate_proj.weight", gate_up[expert, :half]
            yield f"{expert}.up_proj.weight", gate_up[expert, half:]
            yield f"{expert}.down_proj.weight", down[expert]

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:  # noqa: FBT001 -- torch's signature
        destination.update({prefix + name: view for name, view in self._views(keep_vars=keep_vars)})

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],  # noqa: ARG002 -- torch's signature
        strict: bool,  # noqa: FBT001 -- torch's signature
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        own = {prefix + name: view for name, view in self._views(keep_vars=False)}
        for name, view in own.items():
            given = state_dict.get(name)
            if given is None:
                missing_keys.append(name)
            elif given.shape != view.shape:
                error_msgs.append(f"{name}: asked {list(view.shape)}, given {list(given.shape)}")
            else:
                view.copy_(given)
        if strict:
            unexpected_keys += [name for name in state_dict if name.startswith(prefix) and name not in own]


class MixtureOfExperts(nn.Module):
    """A router and its experts; there is no shared expert."""

    def __init__(
        self, config: MiMoConfig, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.gate = Router(config, device=device)
        self.experts = Experts(config, dtype=dtype, device=device)

    def forward(self, x_B_T_D: Tensor, replayed_B_T_K: Tensor | None = None) -> tuple[Tensor, Routing]:
        """Return the output [B, T, D], and where the tokens went (N = B * T, rows after one another)."""
        x_N_D = x_B_T_D.flatten(0, 1)
        routing: Routing = self.gate(x_N_D, None if replayed_B_T_K is None else replayed_B_T_K.flatten(0, 1))
        return self.experts(x_N_D, routing).view_as(x_B_T_D), routing


def _gated(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate) * up
