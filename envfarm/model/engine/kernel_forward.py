"""One forward for everybody in a step, by the kernels: one call into C, whatever the step is made of.

A token's numbers depend on its own request only, to the last bit: neither on who else is in the step, nor on how a
prompt was cut, nor on whether a token was guessed. Memory is `RowMemory`'s own, where the kernels read and write it.
"""

import ctypes
import math
from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from envfarm.model.config import LayerKind, MiMoConfig
from envfarm.model.engine.row_memory import Part, RowMemory
from envfarm.model.engine.step_forward import DraftRun, Logits, StepForward, StepResult, TorchForward
from envfarm.model.kernels import structures
from envfarm.model.kernels.libraries import open_library, usable_kinds
from envfarm.model.kernels.packing import PackedModel, can_pack
from envfarm.model.key_value_cache import LayerCache
from envfarm.model.mimo import MiMo
from envfarm.model.rotary import rotary_angles

_NUMBER_BYTES = 4
_FIRST_POSITIONS = 1_024


def choose_forward(model: MiMo, memory: RowMemory, *, kernels: bool) -> tuple[StepForward, str]:
    """Return the kernels where they are wanted and can run the model here, else torch; and its name."""
    kinds = usable_kinds() if kernels and can_pack(model) else []
    if not kinds:
        return TorchForward(model, memory), "torch"
    try:
        library = open_library(kinds[0])
    except OSError:  # another C library than the GNU one
        return TorchForward(model, memory), "torch"
    return KernelForward(model, memory, library), kinds[0].name


class KernelForward:
    """A model run by the kernels, with the weights that it has when this is made."""

    evens_rows = False

    def __init__(self, model: MiMo, memory: RowMemory, library: ctypes.CDLL) -> None:
        self._config = config = model.config
        self._memory = memory
        self._library = library
        self._packed = PackedModel(model)
        self._angles = {kind: _Angles(config, kind) for kind in LayerKind}
        self._layers = (structures.Memory * config.num_hidden_layers)()
        self._blocks = [structures.Memory() for _ in memory.mtp]
        self._global: list[tuple[int, int]] = []
        depth = dict.fromkeys(LayerKind, 0)
        for layer in range(config.num_hidden_layers):
            kind = config.kind_of(layer)
            if kind is LayerKind.GLOBAL:
                self._global.append((layer, depth[kind]))
            else:
                _point_to_ring(self._layers[layer], memory.window, depth[kind])
            depth[kind] += 1
        for own, ring in zip(self._blocks, memory.mtp, strict=True):
            _point_to_ring(own, ring, 0)
        self._pool_made = 0
        self._positions = 0
        self._scratch = torch.empty(0)
        self._scratch_tokens = 0
        self._step = structures.Step(most_chosen=config.num_experts_per_tok)
        self._step_address = ctypes.addressof(self._step)

    def run(self, parts: Sequence[Part], tokens: Sequence[int], *, routing_wanted: bool) -> StepResult:
        """Run tokens through the main model; see `StepForward.run`."""
        config, step, count = self._config, self._step, len(tokens)
        segments, tables, last = array("i"), array("i"), 0
        for part in parts:
            for seat in part.seats:
                segments.extend((seat.row, seat.tokens, part.new_tokens, len(tables)))
                tables.extend(seat.blocks)
                last = max(last, seat.tokens + part.new_tokens)
        hidden_N_D = torch.empty(count, config.hidden_size)
        chosen_N_L_K = None
        if routing_wanted:
            sizes = count, config.num_hidden_layers, config.num_experts_per_tok
            chosen_N_L_K = torch.zeros(sizes, dtype=torch.uint8)
        ids = array("i", tokens)
        self._begin(count, last)
        step.segment_count = len(segments) // 4
        step.segments, step.tables, step.ids = _address(segments), _address(tables), _address(ids)
        step.memories = ctypes.addressof(self._layers)
        step.hidden = hidden_N_D.data_ptr()
        step.chosen = None if chosen_N_L_K is None else chosen_N_L_K.data_ptr()
        self._library.envfarm_forward(self._packed.address, self._step_address)
        return StepResult(hidden_N_D, chosen_N_L_K)

    def logits(self, hidden_N_D: Tensor, rows: Sequence[int]) -> Logits:
        """Return logits; see `StepForward.logits`."""
        count = len(rows)
        logits_R_V = torch.empty(count, self._config.vocab_size)
        inputs, outputs = _row_addresses(hidden_N_D, rows), _row_addresses(logits_R_V, range(count))
        likeliest, chances, finite = array("i", bytes(4 * count)), array("f", bytes(4 * count)), bytearray(count)
        found = (ctypes.c_char * count).from_buffer(finite)
        head = structures.Head(
            count,
            _address(inputs),
            _address(outputs),
            _address(likeliest),
            _address(chances),
            ctypes.addressof(found),
        )
        self._library.envfarm_head(self._packed.address, ctypes.addressof(head))
        logprobs = [-math.log(chance) if chance > 0 else math.nan for chance in chances]
        return Logits(logits_R_V, likeliest, logprobs, [bool(flag) for flag in finite])

    def guess(self, block: int, runs: Sequence[DraftRun]) -> Logits:
        """Return guesses' logits; see `StepForward.guess`."""
        step = self._step
        segments, ids, given, ends, last = array("i"), array("i"), array("Q"), [], 0
        for run in runs:
            segments.extend((run.seat.row, run.start, len(run.tokens), 0))
            ids.extend(run.tokens)
            given.extend(_row_addresses(run.hidden_T_D, range(len(run.tokens))))
            ends.append(len(ids) - 1)
            last = max(last, run.start + len(run.tokens))
        hidden_N_D = torch.empty(len(ids), self._config.hidden_size)
        self._begin(len(ids), last)
        step.segment_count = len(runs)
        step.segments, step.ids, step.given = _address(segments), _address(ids), _address(given)
        step.memories = ctypes.addressof(self._blocks[block])
        step.hidden = hidden_N_D.data_ptr()
        step.chosen = None
        self._library.envfarm_predict_further(self._packed.address, block, self._step_address)
        return self.logits(hidden_N_D, ends)

    def _begin(self, tokens: int, positions: int) -> None:
        """Have memory for so many tokens, angles for so many positions, and the pool's memory where it is now."""
        if tokens > self._scratch_tokens:
            floats = self._library.envfarm_scratch_floats(self._packed.address, len(self._blocks), tokens)
            self._scratch = torch.empty(floats + 16)
            self._scratch_tokens = tokens
            self._step.scratch = -(-self._scratch.data_ptr() // 64) * 64
        self._step.tokens = tokens
        if positions > self._positions:
            self._positions = max(positions, 2 * self._positions, _FIRST_POSITIONS)
            self._make_angles()
        made = self._memory.pool.made_blocks
        if made != self._pool_made:
            self._pool_made = made
            for layer, depth in self._global:
                _point_to_pool(self._layers[layer], *self._memory.pool.parts(depth))

    def _make_angles(self) -> None:
        for kind, angles in self._angles.items():
            angles.make(self._positions)
            layers = range(self._config.num_hidden_layers)
            own = [self._layers[layer] for layer in layers if self._config.kind_of(layer) is kind]
            for memory in [*own, *(self._blocks if kind is LayerKind.WINDOW else ())]:
                memory.cosines, memory.sines = angles.cosines.data_ptr(), angles.sines.data_ptr()


class _Angles:
    """Cosines and sines of a kind's layers, [positions, rotary_dim / 2]."""

    def __init__(self, config: MiMoConfig, kind: LayerKind) -> None:
        self._rotary_dim = config.rotary_dim(kind)
        self._theta = config.attention(kind).rope_theta
        self.cosines = self.sines = torch.empty(0)

    def make(self, positions: int) -> None:
        cosines, sines = rotary_angles(torch.arange(positions)[None], self._rotary_dim, self._theta)
        self.cosines, self.sines = cosines.contiguous(), sines.contiguous()


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


def _address(numbers: "array[int]") -> int:
    return numbers.buffer_info()[0]


def _row_addresses(rows_N_C: Tensor, rows: Sequence[int]) -> "array[int]":
    """Return where rows of a matrix begin, whose numbers lie side by side in float32."""
    start, stride = rows_N_C.data_ptr(), rows_N_C.stride(0) * _NUMBER_BYTES
    return array("Q", [start + row * stride for row in rows])
