"""A layer's experts: tokens are laid together by expert, go through two products each, and are brought back."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from envfarm.model.experts import Experts
from envfarm.model.kernels.training_structures import Collect, Spread
from envfarm.model.router import Routing
from envfarm.training.by_kernels.calls import Calls, address_of, fill
from envfarm.training.by_kernels.rows import gate_rows

_MULTIPLE = 64
"""An expert's rows are filled up with zeros: torch prepares a product for each number of rows that it has not seen
(some milliseconds), and an expert has another one in each step."""


def run_experts(calls: Calls, normal_N_D: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """Return the weighted sum of each token's experts, [N, D]."""
    out: Tensor = _Experts.apply(
        calls, normal_N_D, routing.weights_N_K, experts.gate_up_proj, experts.down_proj, routing.chosen_N_K
    )
    return out


class _Places:
    """Where the pairs of tokens and experts lie."""

    def __init__(self, calls: Calls, chosen_N_K: Tensor, experts: int) -> None:
        self._calls = calls
        self.tokens, self.chosen = chosen_N_K.shape
        pairs = chosen_N_K.contiguous()
        self._places = torch.empty(pairs.numel(), dtype=torch.int32)
        self._sources = torch.empty(pairs.numel() + experts * _MULTIPLE, dtype=torch.int32)
        ends = torch.empty(experts, dtype=torch.int64)
        arrays = [address_of(array) for array in (self._places, self._sources, ends)]
        calls.library.envfarm_arrange(address_of(pairs), pairs.numel(), experts, _MULTIPLE, *arrays)
        self.ends: list[int] = ends.tolist()

    def parts(self) -> Iterator[tuple[int, slice]]:
        """Yield each expert and its places."""
        begin = 0
        for expert, end in enumerate(self.ends):
            yield expert, slice(begin, end)
            begin = end

    def spread(
        self, rows: Tensor, factors: Tensor | None = None, others: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return rows at their places, times factors; and the products of rows with others, [N, K]."""
        placed = rows.new_empty(self.ends[-1], rows.shape[1])
        products = torch.empty(self.tokens, self.chosen)
        fields = {"rows": rows, "sources": self._sources, "factors": factors, "placed": placed, "others": others}
        spread = fill(Spread, rows, **fields, products=products, chosen=self.chosen, size=rows.shape[1])
        self._calls.share("envfarm_spread", spread, len(placed))
        return placed, products

    def collect(self, placed: Tensor, factors: Tensor | None = None) -> Tensor:
        """Return the sum of each token's rows, times factors."""
        rows = placed.new_empty(self.tokens, placed.shape[1])
        fields = {"placed": placed, "places": self._places, "factors": factors, "rows": rows}
        collect = fill(Collect, placed, **fields, chosen=self.chosen, size=placed.shape[1])
        self._calls.share("envfarm_collect", collect, self.tokens)
        return rows


class _Experts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, calls: Calls, x: Tensor, factors: Tensor, gate_up: Tensor, down: Tensor, chosen: Tensor
    ) -> Tensor:
        places = _Places(calls, chosen, len(down))
        factors = factors.contiguous()
        gate_up, down = gate_up.to(x.dtype), down.to(x.dtype)
        placed, _ = places.spread(x)
        gates = _multiply_each(places, placed, gate_up.transpose(1, 2))
        outputs = _multiply_each(places, gate_rows(calls, gates, None)[0], down.transpose(1, 2))
        ctx.save_for_backward(factors, gate_up, down, placed, gates, outputs)
        ctx.calls, ctx.places = calls, places
        return places.collect(outputs, factors)

    @staticmethod
    def backward(ctx: Any, of_out: Tensor) -> tuple[Tensor | None, ...]:
        factors, gate_up, down, placed, gates, outputs = ctx.saved_tensors
        places: _Places = ctx.places
        of_outputs, of_factors = places.spread(of_out.contiguous(), factors, outputs)
        inner, of_gates = gate_rows(ctx.calls, gates, _multiply_each(places, of_outputs, down))
        assert of_gates is not None  # noqa: S101 -- it was asked for
        of_x = places.collect(_multiply_each(places, of_gates, gate_up))
        return (
            None,
            of_x,
            of_factors,
            _weight_gradients(places, of_gates, placed, gate_up),
            _weight_gradients(places, of_outputs, inner, down),
            None,
        )


def _multiply_each(places: _Places, rows: Tensor, weights_E: Tensor) -> Tensor:
    """Return each expert's rows times its matrix [inputs, outputs]."""
    out = rows.new_empty(len(rows), weights_E.shape[2])
    for expert, part in places.parts():
        torch.mm(rows[part], weights_E[expert], out=out[part])
    return out


def _weight_gradients(places: _Places, of_out: Tensor, rows: Tensor, weights_E: Tensor) -> Tensor:
    found = torch.empty_like(weights_E)
    for expert, part in places.parts():
        torch.mm(of_out[part].t(), rows[part], out=found[expert])
    return found.float()
