"""Multi-token prediction: light blocks that each predict one token further than the main model.

Block k at position t takes the embedding of token t + 1 + k and the main model's hidden state at t after its final
norm; blocks are not chained. It predicts token t + 2 + k through the shared head.
"""

import torch
from torch import Tensor, nn

from envfarm.model.attention import Attention
from envfarm.model.attention_pass import Attends
from envfarm.model.config import LayerKind, MiMoConfig
from envfarm.model.feed_forward import FeedForward
from envfarm.model.norm import RMSNorm


class MTPBlock(nn.Module):
    """One block: window attention with a cache of its own, a dense feed-forward, a final norm."""

    def __init__(
        self, config: MiMoConfig, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> None:
        super().__init__()

        def norm() -> RMSNorm:
            return RMSNorm(config.hidden_size, config.layernorm_epsilon, dtype=dtype, device=device)

        self.enorm, self.hnorm = norm(), norm()
        self.eh_proj = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False, dtype=dtype, device=device)
        self.input_layernorm = norm()
        self.self_attn = Attention(config, LayerKind.WINDOW, dtype=dtype, device=device)
        self.pre_mlp_layernorm = norm()
        self.mlp = FeedForward(config.hidden_size, config.intermediate_size, dtype=dtype, device=device)
        self.final_layernorm = norm()

    def forward(self, embedding_B_T_D: Tensor, hidden_B_T_D: Tensor, attention: Attends) -> Tensor:
        """Return hidden states for the head, [B, T, D].

        Args:
            embedding_B_T_D: Embedding of token t + 1 + k in row t.
            hidden_B_T_D: The main model's hidden state of token t after its final norm.
            attention: The pass of this block, with the positions t.
        """
        x: Tensor = self.eh_proj(torch.cat((self.enorm(embedding_B_T_D), self.hnorm(hidden_B_T_D)), dim=-1))
        x = x + self.self_attn(self.input_layernorm(x), attention, 0)
        x = x + self.mlp(self.pre_mlp_layernorm(x))
        out: Tensor = self.final_layernorm(x)
        return out


class MTPStack(nn.Module):
    """All blocks; exists for the checkpoint's names."""

    def __init__(
        self, config: MiMoConfig, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        blocks = [MTPBlock(config, dtype=dtype, device=device) for _ in range(config.num_nextn_predict_layers)]
        self.layers = nn.ModuleList(blocks)
