"""Keys and values of global layers in blocks that requests take as they grow and give back at once.

Block 0 belongs to nobody and stays zero: tables of short rows are filled up with it. A block that is given back is
zeroed, so that nothing of one request is ever in the memory of another.
"""

import heapq
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from envfarm.model.config import AttentionShape
from envfarm.model.layout import Layout

BLOCK_TOKENS = 64
_NOBODY = 0


class BlockPool:
    """The memory of `layers` layers of one shape; every layer has the same blocks.

    Attributes:
        capacity_blocks: How many blocks there may be, block 0 not counted.
        used_blocks: How many are taken.
    """

    def __init__(
        self,
        shape: AttentionShape,
        layers: int,
        capacity_blocks: int,
        *,
        dtype: torch.dtype,
        device: torch.device | str | None = None,
    ) -> None:
        self.shape = shape
        self.capacity_blocks = capacity_blocks
        self.used_blocks = 0
        self._free: list[int] = []
        self._made = 1
        sizes = [(shape.kv_heads, 1, BLOCK_TOKENS, size) for size in (shape.head_dim, shape.v_head_dim)]
        self._memory = [[torch.zeros(size, dtype=dtype, device=device) for _ in range(layers)] for size in sizes]

    @property
    def free_blocks(self) -> int:
        """How many more blocks can be taken."""
        return self.capacity_blocks - self.used_blocks

    @property
    def made_blocks(self) -> int:
        """How many blocks there is memory for, block 0 included; when it changes, `parts` are other tensors."""
        return self._made

    @property
    def reserved_bytes(self) -> int:
        """Bytes of keys and values, blocks that nobody has included."""
        return sum(part.numel() * part.element_size() for memory in self._memory for part in memory)

    def take(self, count: int) -> list[int]:
        """Return blocks that hold zeros; the lowest first, so that a row's blocks tend to lie side by side.

        Raises:
            ValueError: There are not so many.
        """
        if count > self.free_blocks:
            message = f"{count} blocks asked for, {self.free_blocks} are free"
            raise ValueError(message)
        missing = count - len(self._free)
        if missing > 0:
            self._grow(missing)
        self.used_blocks += count
        return [heapq.heappop(self._free) for _ in range(count)]

    def give_back(self, blocks: Sequence[int]) -> None:
        """Zero blocks, and let others take them."""
        if not blocks:
            return
        for memory in self._memory:
            for part in memory:
                part[:, list(blocks)] = 0
        for block in blocks:
            heapq.heappush(self._free, block)
        self.used_blocks -= len(blocks)

    def parts(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return the memory of a layer: keys [G, blocks, BLOCK_TOKENS, C] and values [G, blocks, BLOCK_TOKENS, U]."""
        keys, values = self._memory
        return keys[layer], values[layer]

    def _grow(self, missing: int) -> None:
        """Make at least so many blocks more; by half of what is there, so that growing stays cheap in sum."""
        added = min(max(missing, self._made // 2), self.capacity_blocks + 1 - self._made)
        for memory in self._memory:
            for layer, part in enumerate(memory):
                memory[layer] = functional.pad(part, (0, 0, 0, 0, 0, added))  # one by one: no second copy of all
        for block in range(self._made, self._made + added):
            heapq.heappush(self._free, block)
        self._made += added


class PooledRows:
    """Rows of one forward whose tokens lie in blocks: a store for an attention pass.

    Args of the constructor: the pool, and each row's blocks, which have room for the forward's tokens.
    """

    def __init__(self, pool: BlockPool, tables: Sequence[Sequence[int]]) -> None:
        self._pool = pool
        self._tables = tables

    def begin(self, layout: Layout) -> "PooledStep":
        """Return how layers store and see the tokens of one forward."""
        return PooledStep(self._pool, self._tables, layout.positions_B_T)


class PooledStep:
    """One forward's use of a pool.

    Attributes:
        seen: Layout of the keys that `store` returns; None where those are the forward's own tokens alone.
    """

    def __init__(self, pool: BlockPool, tables: Sequence[Sequence[int]], own_B_T: Tensor) -> None:
        self._pool = pool
        longest = int(own_B_T.max()) + 1
        blocks = -(-longest // BLOCK_TOKENS)
        # A key's position is its place in the row: what lies behind a query's position is hidden from it.
        filled = [[*table[:blocks], *[_NOBODY] * (blocks - len(table))] for table in tables]
        self._table_B_N = torch.tensor(filled, dtype=torch.int64, device=own_B_T.device)
        self._block_B_T = self._table_B_N.gather(1, own_B_T // BLOCK_TOKENS)
        self._place_B_T = own_B_T % BLOCK_TOKENS
        self._longest = longest
        first, only = filled[0][0], len(tables) == 1
        self._run = slice(first, first + blocks) if only and filled[0] == list(range(first, first + blocks)) else None
        self.seen: Layout | None = None
        if bool((own_B_T[:, 0] > 0).any()):
            self.seen = Layout(torch.arange(longest, device=own_B_T.device).expand(len(tables), longest))

    def store(self, layer: int, k_B_T_G_C: Tensor, v_B_T_G_U: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a layer's new keys and values; return what its queries may look at, [B, G, S, C] and [B, G, S, U]."""
        keys, values = (
            self._store(memory, new)
            for memory, new in zip(self._pool.parts(layer), (k_B_T_G_C, v_B_T_G_U), strict=True)
        )
        return keys, values

    def _store(self, memory_G_N_P_C: Tensor, new_B_T_G_C: Tensor) -> Tensor:
        memory_G_N_P_C[:, self._block_B_T, self._place_B_T] = new_B_T_G_C.permute(2, 0, 1, 3).to(memory_G_N_P_C.dtype)
        if self.seen is None:
            return new_B_T_G_C.transpose(1, 2)
        groups, made, _, size = memory_G_N_P_C.shape
        if self._run is not None:
            return memory_G_N_P_C[:, self._run].reshape(1, groups, -1, size)[:, :, : self._longest]
        rows = self._table_B_N.shape[0]
        heads = torch.arange(groups, device=self._table_B_N.device)[None, :, None] * made
        wanted_B_G_N = heads + self._table_B_N[:, None]
        found = memory_G_N_P_C.flatten(0, 1).index_select(0, wanted_B_G_N.flatten())
        return found.view(rows, groups, -1, size)[:, :, : self._longest]
