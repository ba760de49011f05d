"""Window attention as blocks: queries of a block see keys of their own block and the one before, and no others.

With blocks as wide as the window this costs T * 2W scores instead of T * T. Rows become rows times blocks.
"""

import torch
from torch import Tensor
from torch.nn import functional

from envfarm.model.layout import PADDING, Layout, visible_bias
from envfarm.model.sink_attention import attend


class WindowBlocks:
    """The blocks of one forward: made once from its layout, used by every window layer.

    Right only where no token sees further back than `width`, and where keys of a document stand in the order of their
    positions, which every layout without a cache has.
    """

    def __init__(self, layout: Layout, reach_tokens: int, dtype: torch.dtype) -> None:
        self.width = max(reach_tokens, 1)
        self.tokens = layout.positions_B_T.shape[1]
        self.blocks = -(-self.tokens // self.width)
        own, both = self._lay(layout, with_previous=False), self._lay(layout, with_previous=True)
        self.bias = visible_bias(own, both, reach_tokens, dtype)

    def attend(
        self, q_B_H_T_C: Tensor, k_B_G_T_C: Tensor, v_B_G_T_U: Tensor, sink_H: Tensor | None, scale: float
    ) -> Tensor:
        """Return the attention's output, [B, H, T, U]."""
        q, k, v = (
            self._fold(x, with_previous=previous)
            for x, previous in ((q_B_H_T_C, False), (k_B_G_T_C, True), (v_B_G_T_U, True))
        )
        out = attend(q, k, v, sink_H, self.bias, scale)
        unfolded = out.view(-1, self.blocks, *out.shape[1:]).transpose(1, 2).flatten(2, 3)
        return unfolded[:, :, : self.tokens]

    def _lay(self, layout: Layout, *, with_previous: bool) -> Layout:
        positions = self._fold(layout.positions_B_T[:, None, :, None], with_previous=with_previous, fill=PADDING)
        documents = layout.documents_B_T
        if documents is not None:
            documents = self._fold(documents[:, None, :, None], with_previous=with_previous, fill=PADDING)[:, 0, :, 0]
        return Layout(positions[:, 0, :, 0], documents)

    def _fold(self, x_B_H_T_C: Tensor, *, with_previous: bool, fill: int = 0) -> Tensor:
        """Return [B * blocks, H, W or 2W, C], the last block filled up."""
        missing = self.blocks * self.width - self.tokens
        filled = functional.pad(x_B_H_T_C, (0, 0, 0, missing), value=fill)
        blocks = filled.reshape(*filled.shape[:2], self.blocks, self.width, -1)
        if with_previous:
            previous = functional.pad(blocks[:, :, :-1], (0, 0, 0, 0, 1, 0), value=fill)
            blocks = torch.cat((previous, blocks), dim=3)
        return blocks.transpose(1, 2).flatten(0, 1)
