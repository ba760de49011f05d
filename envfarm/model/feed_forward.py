"""A dense feed-forward: silu(gate) times up, then down."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class FeedForward(nn.Module):
    """The dense layers' and MTP blocks' feed-forward."""

    def __init__(
        self, hidden: int, inner: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, inner, bias=False, dtype=dtype, device=device)
        self.up_proj = nn.Linear(hidden, inner, bias=False, dtype=dtype, device=device)
        self.down_proj = nn.Linear(inner, hidden, bias=False, dtype=dtype, device=device)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the input's shape."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out
