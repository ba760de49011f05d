"""One forward's pass through the layers of one kind: what they share (angles, masks, cache slots) is made once."""

from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from envfarm.model.config import LayerKind, MiMoConfig
from envfarm.model.key_value_cache import KeyValueStore
from envfarm.model.layout import Layout, visible_bias
from envfarm.model.rotary import rotary_angles, turn
from envfarm.model.sink_attention import attend
from envfarm.model.window_blocks import WindowBlocks

_MOST_BIASES = 1 << 24
"""Above so many (query, key) pairs, queries go in slabs whose masks are made again in each layer: 64 MB of masks."""


class Attends(Protocol):
    """What an attention layer asks for: the attention of its tokens, wherever their keys and values lie."""

    def attend(
        self, q_B_T_H_C: Tensor, k_B_T_G_C: Tensor, v_B_T_G_U: Tensor, sink_H: Tensor | None, cache_layer: int
    ) -> Tensor:
        """Return [B, T, H, U]."""


class AttentionPass:
    """What all layers of a kind share in one forward."""

    def __init__(self, config: MiMoConfig, kind: LayerKind, layout: Layout, cache: KeyValueStore | None = None) -> None:
        self.shape = config.attention(kind)
        self._layout = layout
        self._rotary_dim = config.rotary_dim(kind)
        self._step = None if cache is None else cache.begin(layout)

    def attend(
        self, q_B_T_H_C: Tensor, k_B_T_G_C: Tensor, v_B_T_G_U: Tensor, sink_H: Tensor | None, cache_layer: int
    ) -> Tensor:
        """Turn queries and keys by their positions, store the new keys and values, and attend: [B, T, H, U].

        `cache_layer` counts the layers of this kind.
        """
        q, k, v = turn(q_B_T_H_C, *self._angles), turn(k_B_T_G_C, *self._angles), v_B_T_G_U
        if self._step is None:
            keys, values = k.transpose(1, 2), v.transpose(1, 2)
        else:
            keys, values = self._step.store(cache_layer, k, v)
        return self._attend(q.transpose(1, 2), keys, values, sink_H).transpose(1, 2)

    def _attend(self, q_B_H_T_C: Tensor, k_B_G_S_C: Tensor, v_B_G_S_U: Tensor, sink_H: Tensor | None) -> Tensor:
        scale = self.shape.head_dim**-0.5
        reach, tokens = self.shape.reach_tokens, q_B_H_T_C.shape[2]
        is_alone = self._step is None or self._step.seen is None
        if is_alone and reach is not None and tokens > reach + 1:
            return self._blocks(q_B_H_T_C.dtype).attend(q_B_H_T_C, k_B_G_S_C, v_B_G_S_U, sink_H, scale)
        if is_alone and self._layout.is_plain:
            return attend(q_B_H_T_C, k_B_G_S_C, v_B_G_S_U, sink_H, None, scale)
        slab = max(_MOST_BIASES // (k_B_G_S_C.shape[0] * k_B_G_S_C.shape[2]), 1)
        if slab >= tokens:
            return attend(q_B_H_T_C, k_B_G_S_C, v_B_G_S_U, sink_H, self._bias(q_B_H_T_C.dtype), scale)
        parts = []
        for start in range(0, tokens, slab):
            queries = q_B_H_T_C[:, :, start : start + slab]
            bias = visible_bias(self._layout.part(start, start + slab), self._keys, reach, q_B_H_T_C.dtype)
            parts.append(attend(queries, k_B_G_S_C, v_B_G_S_U, sink_H, bias, scale))
        return torch.cat(parts, dim=2)

    @property
    def _keys(self) -> Layout:
        return self._layout if self._step is None or self._step.seen is None else self._step.seen

    @cached_property
    def _angles(self) -> tuple[Tensor, Tensor]:
        return rotary_angles(self._layout.positions_B_T, self._rotary_dim, self.shape.rope_theta)

    def _bias(self, dtype: torch.dtype) -> Tensor:
        if not hasattr(self, "_made_bias"):
            self._made_bias = visible_bias(self._layout, self._keys, self.shape.reach_tokens, dtype)
        return self._made_bias

    def _blocks(self, dtype: torch.dtype) -> WindowBlocks:
        if not hasattr(self, "_made_blocks"):
            self._made_blocks = WindowBlocks(self._layout, self.shape.reach_tokens or 0, dtype)
        return self._made_blocks
