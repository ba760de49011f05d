"""Which FP8 scale belongs to which rows: tiles of 128 by 128, started again where an export was sharded. PURE.

The real checkpoint's global layers have 768 rows of keys and 8 rows of scales: four shards of 192 rows were quantised
each by itself, with two rows of tiles each, the second one half a tile high.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from envfarm.errors import CheckpointError
from envfarm.model.config_json import TILE

_SHARD_COUNTS = (4, 8, 2)


@dataclass(frozen=True)
class TileRow:
    """Rows of weights that share a row of scales: from `start` up to, not including, `stop`."""

    scale_row: int
    start: int
    stop: int


def scale_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the shape of the scales of a weight that was quantised in one piece."""
    rows, columns = shape
    return _tiles(rows), _tiles(columns)


def tile_rows(name: str, shape: tuple[int, ...], scales: tuple[int, ...]) -> Iterator[TileRow]:
    """Yield the rows of tiles of a weight, in order.

    Raises:
        CheckpointError: No shard count explains the number of scales; the message names the weight.
    """
    if len(shape) == len(scales) == 2:  # noqa: PLR2004 -- a matrix has two axes
        (rows, columns), (scale_rows, scale_columns) = shape, scales
        shards = _shard_count(rows, scale_rows)
        if shards and scale_columns == _tiles(columns):
            return _rows_of_shards(rows // shards, shards)
    message = f"{name}: scales of shape {list(scales)} do not fit a weight of shape {list(shape)} in tiles of {TILE}"
    raise CheckpointError(message)


def _rows_of_shards(height: int, shards: int) -> Iterator[TileRow]:
    scale_row = 0
    for shard in range(shards):
        for start in range(0, height, TILE):
            stop = min(start + TILE, height)
            yield TileRow(scale_row, shard * height + start, shard * height + stop)
            scale_row += 1


def _shard_count(rows: int, scale_rows: int) -> int:
    if scale_rows == _tiles(rows):
        return 1
    fitting = (n for n in _SHARD_COUNTS if rows % n == 0 and scale_rows == n * _tiles(rows // n))
    return next(fitting, 0)


def _tiles(length: int) -> int:
    return -(-length // TILE)
