"""An attention layer: four projections, a sink for each head where its kind has one, scaled values."""

import torch
from torch import Tensor, nn

from envfarm.model.attention_pass import Attends
from envfarm.model.config import LayerKind, MiMoConfig


class Attention(nn.Module):
    """Grouped-query attention of one kind; the parameters carry the checkpoint's names."""

    def __init__(
        self,
        config: MiMoConfig,
        kind: LayerKind,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape = config.attention(kind)
        self.value_scale = config.attention_value_scale

        def projection(inputs: int, outputs: int) -> nn.Linear:
            return nn.Linear(inputs, outputs, bias=False, dtype=dtype, device=device)

        self.q_proj = projection(config.hidden_size, shape.heads * shape.head_dim)
        self.k_proj = projection(config.hidden_size, shape.kv_heads * shape.head_dim)
        self.v_proj = projection(config.hidden_size, shape.kv_heads * shape.v_head_dim)
        self.o_proj = projection(shape.heads * shape.v_head_dim, config.hidden_size)
        self.attention_sink_bias: nn.Parameter | None = None
        if shape.has_sink:
            self.attention_sink_bias = nn.Parameter(torch.zeros(shape.heads, dtype=dtype, device=device))

    def forward(self, x_B_T_D: Tensor, attention: Attends, cache_layer: int) -> Tensor:
        """Return [B, T, D]; `cache_layer` counts the layers of this kind."""
        q: Tensor = self.q_proj(x_B_T_D).unflatten(-1, (self.shape.heads, -1))
        k: Tensor = self.k_proj(x_B_T_D).unflatten(-1, (self.shape.kv_heads, -1))
        v: Tensor = self.v_proj(x_B_T_D).unflatten(-1, (self.shape.kv_heads, -1)) * self.value_scale
        seen = attention.attend(q, k, v, self.attention_sink_bias, cache_layer)
        out: Tensor = self.o_proj(seen.flatten(2))
        return out
