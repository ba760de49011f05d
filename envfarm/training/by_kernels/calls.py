"""Calls into the kernels' library: rows are shared by as many threads as torch has, and no number depends on how."""

import ctypes
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from envfarm.model.kernels.libraries import Kind, open_library, usable_kinds
from envfarm.model.kernels.workers import Workers

_FEWEST_ROWS = 256
"""Of a thread: waking one costs 50 us, and so many rows take about as long."""


class Calls:
    """A library, and the threads that call it: one of them for each training, as its memory is used again.

    Args of the constructor: the kind of processor, and how many threads share a call's rows. It raises OSError where
    the library cannot be loaded.

    Attributes:
        library: One of the shipped ones.
    """

    def __init__(self, kind: Kind, threads: int) -> None:
        self.library = open_library(kind)
        self._workers = Workers(threads)
        self._scratches: list[Tensor] = [torch.empty(0) for _ in range(self._workers.count)]
        self._logits = torch.empty(0)

    def share(self, name: str, structure: ctypes.Structure, count: int, fewest: int = _FEWEST_ROWS) -> None:
        """Do rows 0 up to, not including, `count`; nobody gets fewer than `fewest` if there is more than one."""
        call: Callable[..., None] = getattr(self.library, name)
        address = ctypes.byref(structure)
        self._workers.run([partial(call, address, begin, end) for begin, end in self._parts(count, fewest)])

    def share_with_memory(self, name: str, structure: ctypes.Structure, count: int, floats: int) -> None:
        """Do `count` items, each thread with memory of its own."""
        call: Callable[..., None] = getattr(self.library, name)
        address, jobs = ctypes.byref(structure), []
        for thread, (begin, end) in enumerate(self._parts(count, 1)):
            if len(self._scratches[thread]) < floats:
                self._scratches[thread] = torch.empty(floats)
            jobs.append(partial(call, address, begin, end, self._scratches[thread].data_ptr()))
        self._workers.run(jobs)

    def logits_room(self, rows: int, vocabulary: int, dtype: torch.dtype) -> Tensor:
        """Return memory for logits, [rows, vocabulary]: the same in each step, and lost when it is asked for again.

        Allocated anew it would be taken from the system and given back each time, which costs more than to fill it.
        """
        if self._logits.dtype is not dtype or self._logits.numel() < rows * vocabulary:
            self._logits = torch.empty(rows * vocabulary, dtype=dtype)
        return self._logits[: rows * vocabulary].view(rows, vocabulary)

    def _parts(self, count: int, fewest: int) -> list[tuple[int, int]]:
        parts = min(self._workers.count, max(count // fewest, 1))
        return list(pairwise(count * part // parts for part in range(parts + 1)))


def choose_calls(device: str, threads: int) -> Calls | None:
    """Return the kernels where they can train on this device; None leaves it to torch."""
    kinds = usable_kinds() if device == "cpu" else []
    if not kinds:
        return None
    try:
        return Calls(kinds[0], threads)
    except OSError:  # another C library than the GNU one
        return None


def address_of(tensor: Tensor | None) -> int | None:
    """Return where a tensor's numbers begin; they have to lie side by side."""
    if tensor is None:
        return None
    assert tensor.is_contiguous()  # noqa: S101 -- a stride would be read as numbers of others
    return tensor.data_ptr()


def fill(structure: type[ctypes.Structure], like: Tensor | None = None, **fields: Any) -> ctypes.Structure:
    """Return a structure that keeps its tensors alive: addresses for them, and `halves` as `like` is."""
    values = {name: address_of(value) if isinstance(value, Tensor) else value for name, value in fields.items()}
    if like is not None:
        values["halves"] = int(like.dtype is torch.bfloat16)
    filled = structure(**values)
    filled.kept = fields
    return filled
