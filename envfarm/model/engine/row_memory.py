"""The memory of all requests: a ring row for window layers and MTP blocks, and blocks for global layers.

A seat is what one request has of it. Taking a seat costs a row; blocks come as the request grows.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from envfarm.model.attention_pass import Attends, AttentionPass
from envfarm.model.config import LayerKind, MiMoConfig
from envfarm.model.engine.block_pool import BLOCK_TOKENS, BlockPool, PooledRows
from envfarm.model.key_value_cache import CacheStep, LayerCache
from envfarm.model.layout import Layout


@dataclass
class Seat:
    """One request's memory.

    Attributes:
        row: Its row in every ring.
        blocks: Its blocks, in the order of its tokens.
        tokens: How many of its tokens have keys and values.
    """

    row: int
    blocks: list[int] = field(default_factory=list)
    tokens: int = 0


@dataclass(frozen=True)
class Part:
    """Seats that go on by equally many tokens in one forward; one after another in its flat row.

    Attributes:
        seats: Whose tokens; all start at their first token, or none does.
        new_tokens: How many each seat goes on by, T.
    """

    seats: Sequence[Seat]
    new_tokens: int

    @property
    def size(self) -> int:
        """Tokens of the part."""
        return len(self.seats) * self.new_tokens


class RowMemory:
    """Rings and blocks for at most `rows` requests and `capacity_tokens` tokens in global layers."""

    def __init__(
        self,
        config: MiMoConfig,
        *,
        rows: int,
        capacity_tokens: int,
        draft_slots: int = 0,
        mtp_blocks: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        def ring(layers: int) -> LayerCache:
            shape = config.attention(LayerKind.WINDOW)
            return LayerCache(shape, layers, rows, draft_slots=draft_slots, dtype=dtype, device=device)

        self._config = config
        self._device = device
        # Wrong guesses of the newest forward, at most one for each block, took slots as well.
        self._undo_tokens = 1 + draft_slots - mtp_blocks
        self.pool = BlockPool(
            config.attention(LayerKind.GLOBAL),
            config.count_layers(LayerKind.GLOBAL),
            -(-capacity_tokens // BLOCK_TOKENS),
            dtype=dtype,
            device=device,
        )
        self.window = ring(config.count_layers(LayerKind.WINDOW))
        self.mtp = [ring(1) for _ in range(mtp_blocks)]
        self._free_rows = list(range(rows))

    @property
    def free_rows(self) -> int:
        """How many more seats can be taken."""
        return len(self._free_rows)

    @property
    def key_value_bytes(self) -> int:
        """Bytes of keys and values of the main model and MTP blocks, what is reserved and not used yet included."""
        return self.pool.reserved_bytes + sum(ring.key_value_bytes for ring in (self.window, *self.mtp))

    def take_seat(self) -> Seat:
        """Return a seat without tokens; there has to be a free row."""
        return Seat(heapq.heappop(self._free_rows))

    def leave(self, seat: Seat) -> None:
        """Give everything back at once; nothing of the request stays in memory."""
        self.pool.give_back(seat.blocks)
        for ring in (self.window, *self.mtp):
            ring.forget_row(seat.row)
        heapq.heappush(self._free_rows, seat.row)
        seat.blocks, seat.tokens = [], 0

    def blocks_missing(self, seat: Seat, tokens: int) -> int:
        """Return how many blocks a seat has to take to have room for so many tokens in sum."""
        return max(-(-tokens // BLOCK_TOKENS) - len(seat.blocks), 0)

    def make_room(self, seat: Seat, tokens: int) -> None:
        """Take what is missing for so many tokens in sum; there have to be enough free blocks."""
        seat.blocks += self.pool.take(self.blocks_missing(seat, tokens))

    def can_forget_from(self, seat: Seat, tokens: int) -> bool:
        """Return whether rings still hold what a seat of so many tokens sees."""
        return seat.tokens - tokens <= self._undo_tokens

    def forget_from(self, seat: Seat, tokens: int) -> None:
        """Forget a seat's tokens from position `tokens` on, as if they had never come.

        Blocks without a token are given back. Of what rejected tokens left in the last block nothing can be seen: it
        lies behind every position until it is overwritten.
        """
        kept = -(-tokens // BLOCK_TOKENS)
        self.pool.give_back(seat.blocks[kept:])
        del seat.blocks[kept:]
        for ring in (self.window, *self.mtp):
            ring.forget_row_from(seat.row, tokens)
        seat.tokens = min(seat.tokens, tokens)

    def roll_back(self, seats: Sequence[Seat]) -> None:
        """Forget guesses of the newest forward: everything of the main model behind each seat's tokens."""
        rows = torch.tensor([seat.row for seat in seats], device=self._device)
        lengths = torch.tensor([seat.tokens for seat in seats], device=self._device)
        self.window.forget_rows_from(rows, lengths)
        for seat in seats:
            kept = -(-seat.tokens // BLOCK_TOKENS)
            self.pool.give_back(seat.blocks[kept:])
            del seat.blocks[kept:]

    def passes(self, parts: Sequence[Part]) -> dict[LayerKind, Attends]:
        """Return the attention of a forward over all parts, laid one after another into one row."""
        layouts = [self.layout(part) for part in parts]
        return {
            kind: FlatPass(
                parts,
                [
                    AttentionPass(self._config, kind, layout, self._store(kind, part))
                    for part, layout in zip(parts, layouts, strict=True)
                ],
            )
            for kind in LayerKind
        }

    def layout(self, part: Part) -> Layout:
        """Return where a part's tokens stand."""
        if not part.seats[0].tokens:
            return Layout.plain(len(part.seats), part.new_tokens, self._device)
        starts = torch.tensor([seat.tokens for seat in part.seats], device=self._device)
        return Layout.following(starts, part.new_tokens)

    def _store(self, kind: LayerKind, part: Part) -> "PooledRows | RingRows":
        if kind is LayerKind.GLOBAL:
            return PooledRows(self.pool, [seat.blocks for seat in part.seats])
        return RingRows(self.window, part.seats, self._device)


class RingRows:
    """Some rows of a ring: a store for an attention pass."""

    def __init__(self, ring: LayerCache, seats: Sequence[Seat], device: torch.device | str | None) -> None:
        self._ring = ring
        rows = [seat.row for seat in seats]
        run = list(range(rows[0], rows[0] + len(rows)))
        # Rows side by side are read where they lie, others are copied.
        self._rows: slice | Tensor = slice(run[0], run[-1] + 1) if rows == run else torch.tensor(rows, device=device)

    def begin(self, layout: Layout) -> CacheStep:
        """Return how layers store and see the tokens of one forward."""
        return self._ring.begin(layout, self._rows)


class FlatPass:
    """Attention for tokens of many requests in one row [1, N]: everything but attention sees them as one batch."""

    def __init__(self, parts: Sequence[Part], passes: Sequence[AttentionPass]) -> None:
        self._parts = parts
        self._passes = passes

    def attend(
        self, q_1_N_H_C: Tensor, k_1_N_G_C: Tensor, v_1_N_G_U: Tensor, sink_H: Tensor | None, cache_layer: int
    ) -> Tensor:
        """Return [1, N, H, U]."""
        outputs, start = [], 0
        for part, own in zip(self._parts, self._passes, strict=True):
            shape = len(part.seats), part.new_tokens
            stop = start + part.size
            q, k, v = (x[0, start:stop].view(*shape, *x.shape[2:]) for x in (q_1_N_H_C, k_1_N_G_C, v_1_N_G_U))
            outputs.append(own.attend(q, k, v, sink_H, cache_layer).flatten(0, 1))
            start = stop
        return torch.cat(outputs)[None]
