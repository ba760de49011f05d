"""Keys and values of earlier tokens, for layers of one kind: everything for global layers, a ring for window layers.

A token's slot follows from its position, so rows of a batch may have different lengths, and what was stored for a
rejected token can be forgotten without a trace. Every layer of a kind shares one table of positions.
Rows are one document each. For inference only: run the forward without gradients.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from envfarm.model.config import AttentionShape, LayerKind, MiMoConfig
from envfarm.model.layout import PADDING, Layout

ALL_ROWS = slice(None)
GROWTH_TOKENS = 256
"""Global layers grow by whole blocks of this many tokens. Growing copies a layer: once in 256 tokens, each of which
reads the whole layer anyway."""


class KeyValueStep(Protocol):
    """One forward's use of a store: its layers keep their tokens, and see earlier ones and their own."""

    @property
    def seen(self) -> Layout | None:
        """Layout of the keys that `store` returns; None where those are the forward's own tokens alone."""

    def store(self, layer: int, k_B_T_G_C: Tensor, v_B_T_G_U: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a layer's new keys and values; return what its queries may look at, [B, G, S, C] and [B, G, S, U]."""


class KeyValueStore(Protocol):
    """Where the keys and values of the layers of one kind lie, for the rows of one forward."""

    def begin(self, layout: Layout) -> KeyValueStep:
        """Make room for the tokens of one forward."""


class LayerCache:
    """The keys and values of `layers` layers that have one attention shape.

    Attributes:
        positions_B_S: Position of the token in each slot; -1 where there is none. The last slot is read by nobody:
            padding goes there, and what a ring cannot hold.
        draft_slots: How many tokens of the newest forward, beside its first, can be forgotten in a ring.
    """

    def __init__(
        self,
        shape: AttentionShape,
        layers: int,
        rows: int,
        *,
        draft_slots: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        self.shape = shape
        self.draft_slots = draft_slots
        slots = 0 if shape.reach_tokens is None else shape.reach_tokens + 1 + draft_slots
        self.positions_B_S = torch.full((rows, slots + 1), PADDING, dtype=torch.int64, device=device)
        # Zeros: a slot that nobody wrote has weight 0, and 0 times garbage may be NaN.
        sizes = [(rows, shape.kv_heads, slots + 1, size) for size in (shape.head_dim, shape.v_head_dim)]
        self._memory = [[torch.zeros(size, dtype=dtype, device=device) for _ in range(layers)] for size in sizes]

    @property
    def slots(self) -> int:
        """How many tokens of a row there is room for."""
        return self.positions_B_S.shape[1] - 1

    @property
    def key_value_bytes(self) -> int:
        """Bytes of keys and values for all rows, what is reserved and not used yet included."""
        return sum(part[:, :, 1:].numel() * part.element_size() for memory in self._memory for part in memory)

    def begin(self, layout: Layout, rows: slice | Tensor = ALL_ROWS) -> "CacheStep":
        """Make room for the tokens of one forward, and return how its layers store and see them.

        Args:
            layout: Where the tokens stand.
            rows: Which rows of the cache they belong to, in order.

        Raises:
            ValueError: Rows of several documents.
        """
        if layout.documents_B_T is not None:
            message = "a cache holds one document in each row"
            raise ValueError(message)
        own = layout.positions_B_T
        earlier = self.positions_B_S[rows, : self.slots]
        is_first = not bool((earlier >= 0).any())
        longest = max(int(own.max()), -1 if is_first else int(earlier.max())) + 1
        if self.shape.reach_tokens is None:
            self.reserve(longest)
        return CacheStep(self, own, rows, is_first=is_first, longest=longest)

    def reserve(self, tokens: int) -> None:
        """Make room for rows of so many tokens; rings have all they need."""
        if self.shape.reach_tokens is not None or tokens <= self.slots:
            return
        added = -(-tokens // GROWTH_TOKENS) * GROWTH_TOKENS - self.slots
        self.positions_B_S = functional.pad(self.positions_B_S, (0, added), value=PADDING)
        for memory in self._memory:
            for layer, part in enumerate(memory):
                memory[layer] = functional.pad(part, (0, 0, 0, added))  # one by one: no second copy of all of them

    def forget_from(self, lengths_B: Tensor) -> None:
        """Forget every token at position `lengths_B` of its row or later, as if it had never come.

        In a ring this holds for the tokens of the newest forward, if those were at most 1 + `draft_slots`.
        """
        self.positions_B_S[self.positions_B_S >= lengths_B[:, None]] = PADDING

    def forget_row_from(self, row: int, length: int) -> None:
        """Forget the tokens of one row from position `length` on; see `forget_from`."""
        positions_S = self.positions_B_S[row]
        positions_S[positions_S >= length] = PADDING

    def forget_rows_from(self, rows_R: Tensor, lengths_R: Tensor) -> None:
        """Forget the tokens of some rows from a position of each on; see `forget_from`."""
        positions_R_S = self.positions_B_S[rows_R]
        self.positions_B_S[rows_R] = positions_R_S.masked_fill(positions_R_S >= lengths_R[:, None], PADDING)

    def forget_row(self, row: int) -> None:
        """Forget a whole row, numbers included, so that another document may have it."""
        self.positions_B_S[row] = PADDING
        for part in (part for memory in self._memory for part in memory):
            part[row] = 0

    def parts(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return the memory of a layer: keys [B, G, slots + 1, C] and values [B, G, slots + 1, U]."""
        keys, values = self._memory
        return keys[layer], values[layer]

    def slots_of(self, positions_B_T: Tensor) -> Tensor:
        """Return where each token is written."""
        kept = positions_B_T >= 0
        if self.shape.reach_tokens is None:
            return torch.where(kept, positions_B_T, self.slots)
        kept &= positions_B_T > positions_B_T.amax(1, keepdim=True) - self.slots
        return torch.where(kept, positions_B_T % self.slots, self.slots)


class CacheStep:
    """One forward's use of a `LayerCache`: its layers store their tokens, and see earlier ones and their own.

    Attributes:
        seen: Layout of the keys that `store` returns; None where those are the forward's own tokens alone.
    """

    def __init__(
        self, cache: LayerCache, own_B_T: Tensor, rows: slice | Tensor, *, is_first: bool, longest: int
    ) -> None:
        self._cache = cache
        self._read_rows = rows
        self._rows = torch.arange(cache.positions_B_S.shape[0], device=own_B_T.device)[rows, None]
        self._slots_B_T = cache.slots_of(own_B_T)
        reach = cache.shape.reach_tokens
        # Where nothing is overwritten that these tokens still see, they are stored first and seen in their slots.
        self._is_in_place = reach is None or own_B_T.shape[1] <= cache.slots - reach
        self._slots_seen = longest if reach is None else cache.slots
        earlier = cache.positions_B_S[rows, : cache.slots].clone()
        cache.positions_B_S[self._rows, self._slots_B_T] = own_B_T
        cache.positions_B_S[:, cache.slots] = PADDING
        self.seen: Layout | None = None
        if not is_first and self._is_in_place:
            self.seen = Layout(cache.positions_B_S[rows, : self._slots_seen])
        elif not is_first:
            self.seen = Layout(torch.cat((earlier, own_B_T), dim=1))

    def store(self, layer: int, k_B_T_G_C: Tensor, v_B_T_G_U: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a layer's new keys and values; return what its queries may look at, [B, G, S, C] and [B, G, S, U]."""
        keys, values = (
            self._store(memory, new)
            for memory, new in zip(self._cache.parts(layer), (k_B_T_G_C, v_B_T_G_U), strict=True)
        )
        return keys, values

    def _store(self, memory: Tensor, new_B_T_G_C: Tensor) -> Tensor:
        own = new_B_T_G_C.transpose(1, 2)
        seen = own
        if self.seen is not None and not self._is_in_place:
            seen = torch.cat((memory[self._read_rows, :, :-1], own), dim=2)
        memory[self._rows, :, self._slots_B_T] = new_B_T_G_C.to(memory.dtype)
        in_place = self.seen is not None and self._is_in_place
        return memory[self._read_rows, :, : self._slots_seen] if in_place else seen


class KeyValueCache:
    """Keys and values of the whole model for the rows of a batch: global layers, window layers, each MTP block."""

    def __init__(
        self,
        config: MiMoConfig,
        rows: int,
        *,
        draft_slots: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        def cache_of(kind: LayerKind, layers: int) -> LayerCache:
            shape = config.attention(kind)
            return LayerCache(shape, layers, rows, draft_slots=draft_slots, dtype=dtype, device=device)

        self.main = {kind: cache_of(kind, config.count_layers(kind)) for kind in LayerKind}
        self.mtp = [cache_of(LayerKind.WINDOW, 1) for _ in range(config.num_nextn_predict_layers)]

    @property
    def key_value_bytes(self) -> int:
        """Bytes of keys and values of the main model, what is reserved and not used yet included."""
        return sum(cache.key_value_bytes for cache in self.main.values())

    def forget_from(self, lengths_B: Tensor) -> None:
        """Forget every token at position `lengths_B` of its row or later; see `LayerCache.forget_from`."""
        for cache in (*self.main.values(), *self.mtp):
            cache.forget_from(lengths_B)
