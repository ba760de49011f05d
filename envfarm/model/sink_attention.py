"""Softmax attention with a learned logit in the denominator: eagerly anywhere, and through the CPU's flash kernel.

A head's sink s takes part in the softmax and has no value: with l the logsumexp of the scores, the output is that
without a sink times sigmoid(l - s). The flash kernel gives l; handing its backward l' = logaddexp(l, s) and the scaled
output makes its gradients those of attention with a sink, and d(s) = -sum exp(s - l') (dO . O').

Not covered: dropout, double backward, a flash kernel on anything but the CPU.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from envfarm.model.layout import HIDDEN

_FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default  # noqa: SLF001 -- the one that gives logsumexp
_FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default  # noqa: SLF001 -- as above
_FEW_QUERIES = 8
"""Below this plain products are faster, above 16 the kernel is, by far (129 to 2,048 keys, one and two cores)."""


def attend(
    q_B_H_T_C: Tensor, k_B_G_S_C: Tensor, v_B_G_S_U: Tensor, sink_H: Tensor | None, bias: Tensor | None, scale: float
) -> Tensor:
    """Return the attention's output, [B, H, T, U].

    Args:
        q_B_H_T_C: Queries; head h reads key-value head h // (H / G).
        k_B_G_S_C: Keys.
        v_B_G_S_U: Values.
        sink_H: One logit for each head, or None.
        bias: Added to the scores, [B, 1, T, S]; None for plain causal attention with S = T.
        scale: Factor on the scores.
    """
    if q_B_H_T_C.device.type == "cpu" and q_B_H_T_C.shape[2] >= _FEW_QUERIES:
        return flash_attention(q_B_H_T_C, k_B_G_S_C, v_B_G_S_U, sink_H, bias, scale)
    return eager_attention(q_B_H_T_C, k_B_G_S_C, v_B_G_S_U, sink_H, bias, scale)


def eager_attention(
    q_B_H_T_C: Tensor, k_B_G_S_C: Tensor, v_B_G_S_U: Tensor, sink_H: Tensor | None, bias: Tensor | None, scale: float
) -> Tensor:
    """Return the same as `attend`, by plain products on any device; the softmax is in float32."""
    rows, heads, queries, size = q_B_H_T_C.shape
    groups, keys = k_B_G_S_C.shape[1:3]
    grouped = q_B_H_T_C.reshape(rows, groups, -1, size)
    scores = (grouped @ k_B_G_S_C.transpose(2, 3)).view(rows, heads, queries, keys).float() * scale
    if bias is None:
        later = torch.ones(queries, keys, dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, HIDDEN)
    else:
        scores = scores + bias
    if sink_H is not None:
        scores = torch.cat((scores, sink_H.float()[:, None, None].expand(rows, heads, queries, 1)), dim=-1)
    shares = scores.softmax(-1)[..., :keys].to(v_B_G_S_U.dtype)
    return (shares.reshape(rows, groups, -1, keys) @ v_B_G_S_U).view(rows, heads, queries, -1)


def flash_attention(
    q_B_H_T_C: Tensor, k_B_G_S_C: Tensor, v_B_G_S_U: Tensor, sink_H: Tensor | None, bias: Tensor | None, scale: float
) -> Tensor:
    """Return the same as `attend`, by the CPU's flash kernel, without the matrix of scores."""
    dtype = q_B_H_T_C.dtype
    if dtype is torch.bfloat16 and torch.is_grad_enabled() and q_B_H_T_C.requires_grad:
        # The kernel's backward takes twice as long in bfloat16 as in float32.
        q, k, v = (x.float() for x in (q_B_H_T_C, k_B_G_S_C, v_B_G_S_U))
        return flash_attention(q, k, v, sink_H, None if bias is None else bias.float(), scale).to(dtype)
    size, value_size = q_B_H_T_C.shape[-1], v_B_G_S_U.shape[-1]
    width = max(size, value_size)  # the kernel wants one size for all three
    q, k, v = (
        x if x.shape[-1] == width else functional.pad(x, (0, width - x.shape[-1]))
        for x in (q_B_H_T_C, k_B_G_S_C, v_B_G_S_U)
    )
    out: Tensor = _SinkFlash.apply(q, k, v, sink_H, bias, scale)
    return out[..., :value_size]


class _SinkFlash(torch.autograd.Function):
    """The kernel and its backward, with the sink folded into logsumexp and output."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, sink_H: Tensor | None, bias: Tensor | None, scale: float
    ) -> Tensor:
        out: Tensor
        out, lse_B_H_T = _FLASH(q, k, v, 0.0, bias is None, attn_mask=bias, scale=scale)
        if sink_H is not None:
            with_sink = torch.logaddexp(lse_B_H_T, sink_H.to(lse_B_H_T.dtype)[None, :, None])
            out = out * (lse_B_H_T - with_sink).exp()[..., None].to(out.dtype)
            lse_B_H_T = with_sink
        ctx.save_for_backward(q, k, v, sink_H, bias, out, lse_B_H_T)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, sink_H, bias, out, lse_B_H_T = ctx.saved_tensors
        grads = _FLASH_BACKWARD(grad, q, k, v, out, lse_B_H_T, 0.0, bias is None, attn_mask=bias, scale=ctx.scale)
        sink_grad = None
        if sink_H is not None and ctx.needs_input_grad[3]:
            share_B_H_T = (sink_H.to(lse_B_H_T.dtype)[None, :, None] - lse_B_H_T).exp()
            sink_grad = -(share_B_H_T * (grad * out).sum(-1)).sum((0, 2)).to(sink_H.dtype)
        return *grads, sink_grad, None, None
