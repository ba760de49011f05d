"""A layer of the main model: attention and a feed-forward, each on a normalised residual stream."""

import torch
from torch import Tensor, nn

from envfarm.model.attention import Attention
from envfarm.model.attention_pass import Attends
from envfarm.model.config import MiMoConfig
from envfarm.model.experts import MixtureOfExperts
from envfarm.model.feed_forward import FeedForward
from envfarm.model.norm import RMSNorm
from envfarm.model.router import Routing


class DecoderLayer(nn.Module):
    """Layer `layer` of the main model: global or window, dense or with experts, as its configuration says."""

    def __init__(
        self,
        config: MiMoConfig,
        layer: int,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        kind = config.kind_of(layer)
        self.input_layernorm = RMSNorm(config.hidden_size, config.layernorm_epsilon, dtype=dtype, device=device)
        self.self_attn = Attention(config, kind, dtype=dtype, device=device)
        self.post_attention_layernorm = RMSNorm(
            config.hidden_size, config.layernorm_epsilon, dtype=dtype, device=device
        )
        self.mlp: MixtureOfExperts | FeedForward
        if config.has_experts(layer):
            self.mlp = MixtureOfExperts(config, dtype=dtype, device=device)
        else:
            self.mlp = FeedForward(config.hidden_size, config.intermediate_size, dtype=dtype, device=device)

    def forward(
        self, x_B_T_D: Tensor, attention: Attends, cache_layer: int, replayed_B_T_K: Tensor | None = None
    ) -> tuple[Tensor, Routing | None]:
        """Return the residual stream after this layer, and where the tokens went if it has experts."""
        x = x_B_T_D + self.self_attn(self.input_layernorm(x_B_T_D), attention, cache_layer)
        normalised = self.post_attention_layernorm(x)
        if isinstance(self.mlp, FeedForward):
            return x + self.mlp(normalised), None
        output, routing = self.mlp(normalised, replayed_B_T_K)
        return x + output, routing
