"""One forward for everybody in a step, by the kernels: one call into C for each thread, whatever the step is made of.

A token's numbers depend on its own request only, to the last bit: neither on who else is in the step, nor on how a
prompt was cut, nor on whether a token was guessed, nor on threads. Memory is `RowMemory`'s own, where the kernels read
and write it.
"""

import ctypes
import math
from array import array
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from envfarm.model.engine.kernel_memory import KernelMemory
from envfarm.model.engine.row_memory import Part, RowMemory
from envfarm.model.engine.step_forward import DraftRun, Logits, StepForward, StepResult, TorchForward
from envfarm.model.kernels import structures
from envfarm.model.kernels.libraries import open_library, usable_kinds
from envfarm.model.kernels.packing import PackedModel, can_pack
from envfarm.model.kernels.workers import Workers, split_evenly
from envfarm.model.mimo import MiMo

_NUMBER_BYTES = 4
_SEGMENT_NUMBERS = 4
_FEWEST_TOKENS = 8
"""Of a thread: below this waking one costs more than it saves (50 us; a token costs 70)."""


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
    """A model run by the kernels, with the weights that it has when this is made, in as many threads as torch has."""

    evens_rows = False
    can_guess_all = True

    def __init__(self, model: MiMo, memory: RowMemory, library: ctypes.CDLL) -> None:
        self._config = model.config
        self._library = library
        self._packed = PackedModel(model)
        self._memory = KernelMemory(model.config, memory)
        self._workers = Workers(torch.get_num_threads())
        self._scratches = [_Scratch() for _ in range(self._workers.count)]

    def run(self, parts: Sequence[Part], tokens: Sequence[int], *, routing_wanted: bool) -> StepResult:
        """Run tokens through the main model; see `StepForward.run`."""
        config, count = self._config, len(tokens)
        segments, tables, sizes, last = array("i"), array("i"), [], 0
        for part in parts:
            for seat in part.seats:
                segments.extend((seat.row, seat.tokens, part.new_tokens, len(tables)))
                tables.extend(seat.blocks)
                sizes.append(part.new_tokens)
                last = max(last, seat.tokens + part.new_tokens)
        hidden_N_D = torch.empty(count, config.hidden_size)
        chosen_N_L_K = None
        if routing_wanted:
            wanted = count, config.num_hidden_layers, config.num_experts_per_tok
            chosen_N_L_K = torch.zeros(wanted, dtype=torch.uint8)
        ids = array("i", tokens)
        self._memory.prepare(last)
        step = structures.Step(
            segments=_address(segments),
            tables=_address(tables),
            ids=_address(ids),
            memories=self._memory.layers,
            hidden=hidden_N_D.data_ptr(),
            chosen=None if chosen_N_L_K is None else chosen_N_L_K.data_ptr(),
            most_chosen=config.num_experts_per_tok,
        )
        self._share(step, sizes, partial(self._library.envfarm_forward, self._packed.address))
        return StepResult(hidden_N_D, chosen_N_L_K)

    def logits(self, hidden_N_D: Tensor, rows: Sequence[int]) -> Logits:
        """Return logits; see `StepForward.logits`."""
        count = len(rows)
        logits_R_V = torch.empty(count, self._config.vocab_size)
        inputs, outputs = _row_addresses(hidden_N_D, rows), _row_addresses(logits_R_V, range(count))
        likeliest, chances, finite = (
            array("i", bytes(4 * count)),
            array("f", bytes(4 * count)),
            array("B", bytes(count)),
        )
        jobs = []
        for begin, end in split_evenly([1] * count, self._threads(count // 2, count)):
            head = structures.Head(
                end - begin,
                _address(inputs, begin),
                _address(outputs, begin),
                _address(likeliest, begin),
                _address(chances, begin),
                _address(finite, begin),
            )
            jobs.append(partial(self._library.envfarm_head, self._packed.address, ctypes.pointer(head)))
        self._workers.run(jobs)
        logprobs = [-math.log(chance) if chance > 0 else math.nan for chance in chances]
        return Logits(logits_R_V, likeliest, logprobs, finite)

    def guess(self, block: int, runs: Sequence[DraftRun]) -> Logits:
        """Return guesses' logits; see `StepForward.guess`."""
        segments, ids, given, sizes, ends, last = array("i"), array("i"), array("Q"), [], [], 0
        for run in runs:
            segments.extend((run.seat.row, run.start, len(run.tokens), 0))
            ids.extend(run.tokens)
            given.extend(_row_addresses(run.hidden_T_D, range(len(run.tokens))))
            sizes.append(len(run.tokens))
            ends.append(len(ids) - 1)
            last = max(last, run.start + len(run.tokens))
        hidden_N_D = torch.empty(len(ids), self._config.hidden_size)
        self._memory.prepare(last)
        step = structures.Step(
            segments=_address(segments),
            ids=_address(ids),
            memories=self._memory.blocks[block],
            given=_address(given),
            hidden=hidden_N_D.data_ptr(),
        )
        self._share(step, sizes, partial(self._library.envfarm_predict_further, self._packed.address, block))
        return self.logits(hidden_N_D, ends)

    def guess_all(self, runs: Sequence[DraftRun], blocks: int) -> list[list[int]]:
        """Return guesses; see `StepForward.guess_all`."""
        segments, ids, given, sizes, last = array("i"), array("i"), array("Q"), [], 0
        for run in runs:
            known, rows = len(run.tokens), len(run.tokens) - blocks + 1
            segments.extend((run.seat.row, run.start, rows, len(ids)))
            ids.extend((*run.tokens, *[0] * blocks))
            given.extend((*_row_addresses(run.hidden_T_D, range(known)), *[0] * blocks))
            sizes.append(known)
            last = max(last, run.start + rows)
        self._memory.prepare(last)
        jobs = []
        bounds = split_evenly(sizes, self._threads(sum(sizes), len(sizes)))
        for (begin, end), scratch in zip(bounds, self._scratches, strict=False):
            tokens = sum(sizes[begin:end])
            floats = self._library.envfarm_chain_floats(self._packed.address, blocks, end - begin, tokens)
            step = structures.Step(
                tokens=tokens,
                segment_count=end - begin,
                segments=_address(segments, begin * _SEGMENT_NUMBERS),
                memories=self._memory.blocks[0],
                given=_address(given),
                scratch=scratch.reserve(floats),
            )
            act = self._library.envfarm_guess_all
            jobs.append(partial(act, self._packed.address, blocks, ctypes.pointer(step), _address(ids)))
        self._workers.run(jobs)
        ends = [segments[place + 3] + segments[place + 2] + blocks - 1 for place in range(0, len(segments), 4)]
        return [ids[end : end + blocks].tolist() for end in ends]

    def _share(self, step: structures.Step, sizes: Sequence[int], act: Callable[..., None]) -> None:
        """Do a step in as many threads as are worth while; `sizes` are its segments' tokens."""
        count, jobs, start = sum(sizes), [], 0
        bounds = split_evenly(sizes, self._threads(count, len(sizes)))
        for (begin, end), scratch in zip(bounds, self._scratches, strict=False):
            own = structures.Step.from_buffer_copy(step)
            own.tokens, own.segment_count = sum(sizes[begin:end]), end - begin
            own.segments += begin * _SEGMENT_NUMBERS * _NUMBER_BYTES
            own.ids += start * _NUMBER_BYTES
            own.hidden += start * self._config.hidden_size * _NUMBER_BYTES
            if own.given is not None:
                own.given += start * ctypes.sizeof(ctypes.c_void_p)
            if own.chosen is not None:
                own.chosen += start * self._config.num_hidden_layers * self._config.num_experts_per_tok
            floats = self._library.envfarm_scratch_floats(self._packed.address, self._memory.count, own.tokens)
            own.scratch = scratch.reserve(floats)
            jobs.append(partial(act, ctypes.pointer(own)))
            start += own.tokens
        self._workers.run(jobs)

    def _threads(self, tokens: int, most: int) -> int:
        return max(min(self._workers.count, tokens // _FEWEST_TOKENS, most), 1)


class _Scratch:
    """One thread's memory for a step, as large as its largest."""

    def __init__(self) -> None:
        self._memory = torch.empty(0)
        self._floats = 0
        self._address = 0

    def reserve(self, floats: int) -> int:
        """Return the address of memory for so many numbers, at a cache line's begin."""
        if floats > self._floats:
            self._memory = torch.empty(floats + 16)
            self._address = -(-self._memory.data_ptr() // 64) * 64
            self._floats = floats
        return self._address


def _address(numbers: "array[int] | array[float]", place: int = 0) -> int:
    return numbers.buffer_info()[0] + place * numbers.itemsize


def _row_addresses(rows_N_C: Tensor, rows: Sequence[int]) -> "array[int]":
    """Return where rows of a matrix begin, whose numbers lie side by side in float32."""
    start, stride = rows_N_C.data_ptr(), rows_N_C.stride(0) * _NUMBER_BYTES
    return array("Q", [start + row * stride for row in rows])
