"""Attention with sinks: the CPU's flash kernel and blocks of windows against plain eager attention, gradients too."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from envfarm.model.layout import Layout, visible_bias
from envfarm.model.sink_attention import attend, eager_attention, flash_attention
from envfarm.model.window_blocks import WindowBlocks

Inputs = dict[str, Tensor]
SCALE = 0.3


def reference(q: Tensor, k: Tensor, v: Tensor, sink: Tensor | None, seen: Tensor) -> Tensor:
    """Return attention as the report writes it: exp of the sink joins the denominator."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    weights = (q @ k.transpose(2, 3) * SCALE).exp() * seen.reshape(-1, 1, *seen.shape[-2:])
    denominator = weights.sum(-1, keepdim=True)
    if sink is not None:
        denominator = denominator + sink.exp()[:, None, None]
    return weights / denominator @ v


def draw(tokens: int, *, value_size: int = 16, dtype: torch.dtype = torch.float64) -> Inputs:
    generator = torch.Generator().manual_seed(1)
    shapes = {"q": (2, 4, tokens, 12), "k": (2, 2, tokens, 12), "v": (2, 2, tokens, value_size), "sink": (4,)}
    return {
        name: torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for name, shape in shapes.items()
    }


def gradients(out: Tensor, inputs: Inputs) -> list[Tensor]:
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(out.dtype)
    return list(torch.autograd.grad((out * weights).sum(), list(inputs.values())))


@pytest.mark.parametrize("kernel", [eager_attention, flash_attention])
@pytest.mark.parametrize("value_size", [8, 12, 16])
def test_output_and_gradients_are_those_of_the_formula(kernel: Callable[..., Tensor], value_size: int) -> None:
    inputs = draw(37, value_size=value_size)
    q, k, v, sink = inputs.values()
    expected = reference(q, k, v, sink, torch.ones(37, 37).tril())
    found = kernel(q, k, v, sink, None, SCALE)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    for name, ours, theirs in zip(inputs, gradients(found, inputs), gradients(expected, inputs), strict=True):
        assert theirs.abs().max() > 0.1, name
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5, msg=name)


def test_gradients_agree_with_eager_in_float32_to_1_5e_6() -> None:
    inputs = draw(200, dtype=torch.float32)
    q, k, v, sink = inputs.values()
    found = gradients(flash_attention(q, k, v, sink, None, SCALE), inputs)
    expected = gradients(eager_attention(q, k, v, sink, None, SCALE), inputs)
    for name, ours, theirs in zip(inputs, found, expected, strict=True):
        scale = theirs.abs().max().clamp(min=1)
        assert ((ours - theirs).abs().max() / scale) < 1.5e-6, name


def test_without_a_sink_it_is_plain_attention() -> None:
    q, k, v, _ = draw(20).values()
    expected = reference(q, k, v, None, torch.ones(20, 20).tril())
    for kernel in (eager_attention, flash_attention):
        torch.testing.assert_close(kernel(q, k, v, None, None, SCALE), expected, atol=2e-6, rtol=1e-5)


def test_a_sink_of_minus_infinity_is_none_and_a_high_one_takes_everything() -> None:
    q, k, v, _ = draw(20).values()
    none = attend(q, k, v, None, None, SCALE)
    torch.testing.assert_close(attend(q, k, v, torch.full((4,), -1e4, dtype=q.dtype), None, SCALE), none)
    assert attend(q, k, v, torch.full((4,), 50.0, dtype=q.dtype), None, SCALE).abs().max() < 1e-12


LAYOUTS: dict[str, Any] = {
    "plain": lambda: Layout.plain(2, 37),
    "padded on the left": lambda: Layout.padded(torch.arange(37) >= torch.tensor([[4], [21]])),
    "padded on the right": lambda: Layout.padded(torch.arange(37) < torch.tensor([[33], [9]])),
    "packed": lambda: Layout.packed((torch.arange(37)[None] // torch.tensor([[9], [20]])).clamp(max=2)),
    "packed and padded": lambda: Layout.packed(
        torch.where(torch.arange(37) < torch.tensor([[31], [12]]), torch.arange(37)[None] // 11, -1)
    ),
}


@pytest.mark.parametrize("reach", [0, 1, 5, 8, 36, 50])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_blocks_of_windows_see_what_one_mask_shows(layout: Callable[[], Layout], reach: int) -> None:
    inputs, where = draw(37), layout()
    q, k, v, sink = inputs.values()
    seen = visible_bias(where, where, reach, torch.float64)[:, 0] == 0
    real = seen.any(-1)[:, None, :, None]
    expected = torch.where(real, reference(q, k, v, sink, seen), 0)
    found = torch.where(real, WindowBlocks(where, reach, torch.float64).attend(q, k, v, sink, SCALE), 0)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    for name, ours, theirs in zip(inputs, gradients(found, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5, msg=name)


def test_who_sees_whom() -> None:
    """One row of two documents and padding, written out."""
    layout = Layout.packed(torch.tensor([[5, 5, 5, 7, 7, -1]]))
    assert layout.positions_B_T.tolist() == [[0, 1, 2, 0, 1, -1]]
    seen = visible_bias(layout, layout, 1, torch.float32)[0, 0] == 0
    assert seen.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize("kernel", [eager_attention, flash_attention])
def test_a_token_that_sees_nothing_gives_no_nan(kernel: Callable[..., Tensor]) -> None:
    inputs = draw(9, dtype=torch.float32)
    q, k, v, sink = inputs.values()
    layout = Layout.padded(torch.tensor([[0] * 5 + [1] * 4] * 2))
    bias = visible_bias(layout, layout, None, torch.float32)
    out = kernel(q, k, v, sink, bias, SCALE)
    assert out.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(out, inputs))
