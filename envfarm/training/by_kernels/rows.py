"""What happens to each row alone: normalisation with the addition before it, gates, products with weights."""

from typing import Any

import torch
from torch import Tensor

from envfarm.model.kernels.training_structures import Gate, Norm, NormGradient
from envfarm.model.norm import RMSNorm
from envfarm.training.by_kernels.calls import Calls, fill

_CHUNK_ROWS = 64
"""Of source/training.h: weights' gradients are summed chunk by chunk, whoever computes a chunk."""


def add_and_norm(
    calls: Calls, stream_N_D: Tensor, added_N_D: Tensor | None, norm: RMSNorm, dtype: torch.dtype, *, wide: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the stream with what is added, that normalised in `dtype`, and the same in float32 where `wide`.

    Args:
        calls: The kernels.
        stream_N_D: The residual stream, float32.
        added_N_D: What a layer adds, in `dtype`; or None.
        norm: The normalisation.
        dtype: What products read.
        wide: Whether float32 is wanted as well; without it, the third result is the second one.
    """
    options = norm.epsilon, dtype, wide and dtype is not torch.float32
    summed, normal, not_rounded = _Norm.apply(calls, stream_N_D, added_N_D, norm.weight, options)
    return stream_N_D if summed is None else summed, normal, normal if not_rounded is None else not_rounded


def gate(calls: Calls, gate_up_N_F: Tensor) -> Tensor:
    """Return silu(gate) times up, [N, F], of rows that have gates and then ups, [N, 2F]."""
    inner: Tensor = _Gate.apply(calls, gate_up_N_F)
    return inner


def multiply(x_N_D: Tensor, *weights: Tensor) -> Tensor:
    """Return the products with one or more weights [outputs, D], side by side, as one product in the rows' dtype."""
    out: Tensor = _Product.apply(x_N_D, *weights)
    return out


def gate_rows(calls: Calls, gate_up: Tensor, of_inner: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return what gates let through, and with its gradient that of gates and ups."""
    inner = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
    of_gate_up = None if of_inner is None else torch.empty_like(gate_up)
    fields = {"inner": inner, "of_inner": of_inner, "of_gate_up": of_gate_up, "size": inner.shape[1]}
    calls.share("envfarm_gate", fill(Gate, gate_up, gate_up=gate_up, **fields), len(gate_up))
    return inner, of_gate_up


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, calls: Calls, stream: Tensor, added: Tensor | None, weight: Tensor, options: tuple[Any, ...]
    ) -> tuple[Tensor | None, Tensor, Tensor | None]:
        epsilon, dtype, wide = options
        (rows, size), summed = stream.shape, None if added is None else torch.empty_like(stream)
        normal = torch.empty_like(stream, dtype=dtype)
        not_rounded = torch.empty_like(stream) if wide else None
        factors = stream.new_empty(rows)
        fields = {"stream": stream, "added": added, "weight": weight, "sum": summed, "wide": not_rounded}
        structure = fill(
            Norm, normal, **fields, normal=normal, factors=factors, rows=rows, size=size, epsilon=float(epsilon)
        )
        calls.share("envfarm_norm", structure, rows)
        ctx.save_for_backward(stream if summed is None else summed, weight, factors)
        ctx.calls, ctx.dtype, ctx.has_added = calls, dtype, added is not None
        ctx.set_materialize_grads(False)
        return summed, normal, not_rounded

    @staticmethod
    def backward(
        ctx: Any, of_sum: Tensor | None, of_normal: Tensor | None, of_wide: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        summed, weight, factors = ctx.saved_tensors
        rows, size = summed.shape
        of_stream = torch.empty_like(summed)
        narrows = ctx.has_added and ctx.dtype is not torch.float32
        of_added = torch.empty_like(summed, dtype=ctx.dtype) if narrows else None
        chunks = -(-rows // _CHUNK_ROWS)
        of_weight = weight.new_empty(chunks, size)
        given = {"of_sum": of_sum, "of_normal": of_normal, "of_wide": of_wide}
        structure = fill(
            NormGradient,
            **{name: None if grad is None else grad.contiguous() for name, grad in given.items()},
            sum=summed,
            weight=weight,
            factors=factors,
            rows=rows,
            size=size,
            of_stream=of_stream,
            of_added=of_added,
            of_weight=of_weight,
            halves=int(ctx.dtype is torch.bfloat16),
        )
        ctx.calls.share("envfarm_norm_gradient", structure, chunks, fewest=4)
        if ctx.has_added and of_added is None:
            of_added = of_stream
        return None, of_stream, of_added, of_weight.sum(0), None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, calls: Calls, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        ctx.calls = calls
        return gate_rows(calls, gate_up, None)[0]

    @staticmethod
    def backward(ctx: Any, of_inner: Tensor) -> tuple[Tensor | None, ...]:
        (gate_up,) = ctx.saved_tensors
        return None, gate_rows(ctx.calls, gate_up, of_inner.contiguous())[1]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> Tensor:
        joined = (weights[0] if len(weights) == 1 else torch.cat(weights)).to(x.dtype)
        ctx.save_for_backward(x, joined)
        ctx.outputs = [len(weight) for weight in weights]
        return x @ joined.t()

    @staticmethod
    def backward(ctx: Any, of_out: Tensor) -> tuple[Tensor | None, ...]:
        x, joined = ctx.saved_tensors
        of_joined = (of_out.t() @ x).float()
        return of_out @ joined, *of_joined.split(ctx.outputs)
