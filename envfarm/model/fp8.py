"""FP8 weights in tiles of 128 by 128 with one float32 scale each, as the real checkpoint has them."""

import torch
from torch import Tensor
from torch.nn import functional

from envfarm.model.config_json import TILE
from envfarm.model.scale_tiles import scale_shape, tile_rows

FP8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(FP8).max


def dequantise(name: str, weight: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the weight in `dtype`, multiplied in float32; edge tiles may be smaller.

    Args:
        name: Name of the weight, for messages.
        weight: FP8, [rows, columns].
        scales: Float32, [rows of tiles, columns of tiles]; see `tile_rows` for exports that were sharded.
        dtype: Type of the result.

    Raises:
        CheckpointError: The scales do not fit the weight.
    """
    columns = weight.shape[1]
    out = torch.empty(weight.shape, dtype=dtype, device=weight.device)
    for tile in tile_rows(name, tuple(weight.shape), tuple(scales.shape)):
        by_column = scales[tile.scale_row].float().repeat_interleave(TILE)[:columns]
        out[tile.start : tile.stop] = weight[tile.start : tile.stop].float() * by_column
    return out


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a finite matrix in FP8 and its scales; each tile's largest number becomes FP8's largest.

    A weight that came from this function and `dequantise` gives the same numbers again.
    """
    rows, columns = weight.shape
    scale_rows, scale_columns = scale_shape((rows, columns))
    wide = functional.pad(weight.float(), (0, scale_columns * TILE - columns, 0, scale_rows * TILE - rows))
    tiles = wide.view(scale_rows, TILE, scale_columns, TILE)
    largest = tiles.abs().amax((1, 3))
    # A tile of zeros gets scale 1; the smallest scale keeps its own reciprocal finite.
    scales = torch.where(largest > 0, largest / _LARGEST, 1.0).clamp(min=torch.finfo(torch.float32).tiny)
    scaled = (tiles / scales[:, None, :, None]).clamp(-_LARGEST, _LARGEST)
    return scaled.view_as(wide)[:rows, :columns].to(FP8).contiguous(), scales
