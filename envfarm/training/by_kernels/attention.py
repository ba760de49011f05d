"""Attention of packed rows: rotary angles, window, documents, sinks and the scale of values are in one kernel."""

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from envfarm.model.attention import Attention
from envfarm.model.config import LayerKind, MiMoConfig
from envfarm.model.kernels.training_structures import Lesson
from envfarm.model.layout import Layout
from envfarm.model.rotary import rotary_angles
from envfarm.training.by_kernels.calls import Calls, fill
from envfarm.training.by_kernels.rows import multiply


@dataclass(frozen=True)
class Sight:
    """What all layers of a kind share in one forward.

    Attributes:
        rows: How many rows of tokens.
        firsts_N: The first place of its row that a token sees, int32; a token that sees nothing has a place behind it.
        cosines_N_R: Of its rotary angles, float32.
        sines_N_R: Likewise.
    """

    rows: int
    firsts_N: Tensor
    cosines_N_R: Tensor
    sines_N_R: Tensor

    @classmethod
    def of_layout(cls, config: MiMoConfig, kind: LayerKind, layout: Layout) -> "Sight":
        """Return what tokens of a layer see; documents have to be runs of tokens, as in packed rows."""
        positions, shape = layout.positions_B_T, config.attention(kind)
        places = torch.arange(positions.shape[1])
        firsts = places - positions
        if shape.reach_tokens is not None:
            firsts = torch.maximum(firsts, places - shape.reach_tokens)
        cosines, sines = rotary_angles(positions, config.rotary_dim(kind), shape.rope_theta)
        return cls(
            len(positions), firsts.int().flatten(), cosines.flatten(0, 2).contiguous(), sines.flatten(0, 2).contiguous()
        )


def attend(calls: Calls, normal_N_D: Tensor, attention: Attention, sight: Sight) -> Tensor:
    """Return what an attention layer adds, [N, D]."""
    projected = multiply(normal_N_D, attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
    seen = _Attention.apply(calls, projected, attention.attention_sink_bias, sight, attention)
    return multiply(seen, attention.o_proj.weight)


def _lesson(sight: Sight, attention: Attention, **fields: Any) -> ctypes.Structure:
    shape = attention.shape
    return fill(
        Lesson,
        fields["projected"],
        firsts=sight.firsts_N,
        cosines=sight.cosines_N_R,
        sines=sight.sines_N_R,
        tokens=len(sight.firsts_N) // sight.rows,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        v_head_dim=shape.v_head_dim,
        rotary_dim=2 * sight.cosines_N_R.shape[1],
        value_scale=float(attention.value_scale),
        **fields,
    )


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, calls: Calls, projected: Tensor, sinks: Tensor | None, sight: Sight, attention: Attention
    ) -> Tensor:
        shape, rows = attention.shape, len(projected)
        exact = torch.empty(rows, shape.heads * shape.v_head_dim)
        out = exact if projected.dtype is torch.float32 else torch.empty_like(exact, dtype=projected.dtype)
        largest = torch.empty(rows * shape.heads)
        shares = torch.empty_like(largest)
        kept = {"projected": projected, "sinks": sinks, "exact": exact, "largest": largest, "shares": shares}
        lesson = _lesson(sight, attention, **kept, out=None if out is exact else out)
        ctx.floats = calls.library.envfarm_lesson_floats(ctypes.byref(lesson))
        calls.share_with_memory("envfarm_lesson", lesson, sight.rows * shape.kv_heads, ctx.floats)
        ctx.save_for_backward(*kept.values())
        ctx.names = tuple(kept)
        ctx.calls, ctx.sight, ctx.attention = calls, sight, attention
        return out

    @staticmethod
    def backward(ctx: Any, of_out: Tensor) -> tuple[Tensor | None, ...]:
        kept = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        shape, rows = ctx.attention.shape, ctx.sight.rows
        of_projected = torch.empty_like(kept["projected"])
        of_sinks = None if kept["sinks"] is None else torch.empty(rows, shape.heads)
        gradients = {"of_out": of_out.contiguous(), "of_projected": of_projected, "of_sinks": of_sinks}
        lesson = _lesson(ctx.sight, ctx.attention, **kept, **gradients)
        ctx.calls.share_with_memory("envfarm_lesson", lesson, rows * shape.kv_heads, ctx.floats)
        return None, of_projected, None if of_sinks is None else of_sinks.sum(0), None, None
