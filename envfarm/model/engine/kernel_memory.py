"""Tells the kernels where everybody's keys and values lie, and how heads are turned at each position.

Rings stay where they are. Blocks move when their pool grows, and angles are made as positions are reached: `prepare`
comes before every call.
"""

import ctypes

import torch
from torch import Tensor

from envfarm.model.config import LayerKind, MiMoConfig
from envfarm.model.engine.row_memory import RowMemory
from envfarm.model.kernels import structures
from envfarm.model.key_value_cache import LayerCache
from envfarm.model.rotary import rotary_angles

_FIRST_POSITIONS = 1_024


class KernelMemory:
    """Where memory is.

    Attributes:
        layers: Address of the main model's structures, one for each layer.
        blocks: Address of each MTP block's structure; they lie one after another.
    """

    def __init__(self, config: MiMoConfig, memory: RowMemory) -> None:
        self._config = config
        self._memory = memory
        self._pool_made = self._positions = 0
        self._angles: list[Tensor] = []
        self._layers = (structures.Memory * config.num_hidden_layers)()
        self._blocks = (structures.Memory * len(memory.mtp))()
        self._layers_of: dict[LayerKind, list[structures.Memory]] = {kind: [] for kind in LayerKind}
        for layer, own in enumerate(self._layers):
            self._layers_of[config.kind_of(layer)].append(own)
        for depth, own in enumerate(self._layers_of[LayerKind.WINDOW]):
            _point_to_ring(own, memory.window, depth)
        for own, ring in zip(self._blocks, memory.mtp, strict=True):
            _point_to_ring(own, ring, 0)
        self.layers = ctypes.addressof(self._layers)
        self.blocks = [ctypes.addressof(own) for own in self._blocks]

    @property
    def count(self) -> int:
        """How many MTP blocks have memory."""
        return len(self._blocks)

    def prepare(self, positions: int) -> None:
        """Be right for a call that reaches so many positions."""
        if positions > self._positions:
            self._positions = max(positions, 2 * self._positions, _FIRST_POSITIONS)
            self._make_angles()
        made = self._memory.pool.made_blocks
        if made != self._pool_made:
            self._pool_made = made
            for depth, own in enumerate(self._layers_of[LayerKind.GLOBAL]):
                _point_to_pool(own, *self._memory.pool.parts(depth))

    def _make_angles(self) -> None:
        self._angles = []
        for kind, layers in self._layers_of.items():
            rotary_dim, theta = self._config.rotary_dim(kind), self._config.attention(kind).rope_theta
            angles = [
                part.contiguous() for part in rotary_angles(torch.arange(self._positions)[None], rotary_dim, theta)
            ]
            self._angles += angles
            for own in [*layers, *(self._blocks if kind is LayerKind.WINDOW else ())]:
                own.cosines, own.sines = (part.data_ptr() for part in angles)


def _point_to_ring(memory: structures.Memory, ring: LayerCache, layer: int) -> None:
    keys, values = ring.parts(layer)
    memory.keys, memory.values = keys.data_ptr(), values.data_ptr()
    memory.positions, memory.slots = ring.positions_B_S.data_ptr(), ring.slots
    memory.unit_keys, memory.group_keys = keys.stride()[:2]
    memory.unit_values, memory.group_values = values.stride()[:2]


def _point_to_pool(memory: structures.Memory, keys: Tensor, values: Tensor) -> None:
    memory.keys, memory.values = keys.data_ptr(), values.data_ptr()
    memory.group_keys, memory.unit_keys = keys.stride()[:2]
    memory.group_values, memory.unit_values = values.stride()[:2]
