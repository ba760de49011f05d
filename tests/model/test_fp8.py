"""FP8: round trips, edge tiles, the sharded export of the real keys, scales that nothing explains."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from envfarm.errors import CheckpointError
from envfarm.model.fp8 import FP8, dequantise, quantise

SIZES = st.integers(1, 300)


def draw(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    # Tiles of very different sizes, so that a scale of the wrong tile shows.
    spread = torch.exp(torch.randn((rows + 127) // 128, (columns + 127) // 128, generator=generator) * 3)
    wide = spread.repeat_interleave(128, 0)[:rows].repeat_interleave(128, 1)[:, :columns]
    return torch.randn(rows, columns, generator=generator) * wide


@given(SIZES, SIZES, st.integers(0, 99))
def test_a_round_trip_loses_what_three_bits_of_mantissa_lose(rows: int, columns: int, seed: int) -> None:
    weight = draw(rows, columns, seed)
    numbers, scales = quantise(weight)
    assert (numbers.dtype, numbers.shape) == (FP8, weight.shape)
    assert (scales.dtype, tuple(scales.shape)) == (torch.float32, (-(-rows // 128), -(-columns // 128)))
    again = dequantise("w", numbers, scales, torch.float32)
    by_tile = scales.repeat_interleave(128, 0)[:rows].repeat_interleave(128, 1)[:, :columns]
    # Half a step: 2^-4 of the number, or half the smallest step 2^-9 where FP8 is subnormal.
    assert bool(((again - weight).abs() <= torch.maximum(weight.abs() * 2**-4, by_tile * 2**-10) * 1.0001).all())


@given(SIZES, SIZES, st.integers(0, 99))
def test_what_was_fp8_gives_the_same_numbers_again(rows: int, columns: int, seed: int) -> None:
    numbers, scales = quantise(draw(rows, columns, seed))
    again, scales_again = quantise(dequantise("w", numbers, scales, torch.float32))
    assert torch.equal(again.view(torch.uint8), numbers.view(torch.uint8))
    torch.testing.assert_close(scales_again, scales, atol=0, rtol=1e-6)


def test_edge_tiles_take_their_own_scale() -> None:
    numbers = torch.ones(130, 257).to(FP8)
    scales = torch.arange(1.0, 7.0).reshape(2, 3)
    weight = dequantise("w", numbers, scales, torch.float32)
    assert {float(x) for x in weight[:128, :128].unique()} == {1.0}
    assert {float(x) for x in weight[:128, 128:256].unique()} == {2.0}
    assert {float(x) for x in weight[:128, 256:].unique()} == {3.0}
    assert [float(x) for x in weight[128:].unique()] == [4.0, 5.0, 6.0]


def test_768_rows_with_8_rows_of_scales_are_four_shards() -> None:
    """The real global layers' keys: tiles start again every 192 rows, 128 rows and then 64."""
    weight = dequantise("k", torch.ones(768, 128).to(FP8), torch.arange(8.0)[:, None] + 1, torch.float32)
    heights = [(float(value), int((weight[:, 0] == value).sum())) for value in weight[:, 0].unique()]
    assert heights == [(1, 128), (2, 64), (3, 128), (4, 64), (5, 128), (6, 64), (7, 128), (8, 64)]
    whole = dequantise("k", torch.ones(768, 128).to(FP8), torch.arange(6.0)[:, None] + 1, torch.float32)
    assert [int((whole[:, 0] == value).sum()) for value in whole[:, 0].unique()] == [128] * 6


@pytest.mark.parametrize(
    ("shape", "scales"),
    [((768, 128), (7, 1)), ((768, 128), (9, 1)), ((768, 128), (6, 2)), ((768, 130), (8, 1)), ((64, 64), (0, 1))],
)
def test_scales_that_nothing_explains_are_refused_by_name(shape: tuple[int, ...], scales: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match=r"layers\.5\.k_proj: scales of shape"):
        dequantise("layers.5.k_proj", torch.ones(shape).to(FP8), torch.ones(scales), torch.float32)


def test_zeros_and_tiny_numbers_stay_finite() -> None:
    weight = torch.zeros(130, 130)
    weight[129, 129] = 1e-42
    numbers, scales = quantise(weight)
    assert bool(scales.isfinite().all())
    assert bool((scales > 0).all())
    again = dequantise("w", numbers, scales, torch.float32)
    assert bool((again[:128, :128] == 0).all())
    assert again.isfinite().all()


def test_the_library_of_the_format_reads_our_numbers(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    numbers, scales = quantise(draw(140, 200, 1))
    save_file({"w": numbers, "w_scale_inv": scales}, tmp_path / "one.safetensors")
    content = (tmp_path / "one.safetensors").read_bytes()
    assert numbers.view(torch.uint8).numpy().tobytes() in content
