"""Calls into the kernels' library: rows are shared by as many threads as torch has, and no number depends on how."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from envfarm.model.kernels.libraries import Kind, open_library, usable_kinds
from envfarm.training.by_kernels.team import make_team

_FEWEST_ROWS = 64
"""Of a thread: fewer take a few microseconds, which is what a team costs."""


class Calls:
    """A library, and the threads that call it: one of them for each training, as its memory is used again.

    Args of the constructor: the kind of processor, and how many threads share a call's rows. It raises OSError where
    the library cannot be loaded.

    Attributes:
        library: One of the shipped ones.
    """

    def __init__(self, kind: Kind, threads: int) -> None:
        self.library = open_library(kind)
        self._team = make_team(self.library, threads)
        self._memories: list[Tensor] = [torch.empty(0) for _ in range(self._team.threads)]
        self._logits = torch.empty(0)

    def share(self, name: str, structure: ctypes.Structure, count: int, fewest: int = _FEWEST_ROWS) -> None:
        """Do rows 0 up to, not including, `count`; nobody gets fewer than `fewest` if there is more than one."""
        self._team.run(getattr(self.library, name), structure, self._parts(count, fewest))

    def share_with_memory(self, name: str, structure: ctypes.Structure, count: int, floats: int) -> None:
        """Do `count` items, each thread with memory of its own."""
        if len(self._memories[0]) < floats:
            self._memories = [torch.empty(floats) for _ in self._memories]
        addresses = [memory.data_ptr() for memory in self._memories]
        self._team.run(getattr(self.library, name), structure, self._parts(count, 1), addresses)

    def logits_room(self, rows: int, vocabulary: int, dtype: torch.dtype) -> Tensor:
        """Return memory for logits, [rows, vocabulary]: the same in each step, and lost when it is asked for again.

        Allocated anew it would be taken from the system and given back each time, which costs more than to fill it.
        """
        if self._logits.dtype is not dtype or self._logits.numel() < rows * vocabulary:
            self._logits = torch.empty(rows * vocabulary, dtype=dtype)
        return self._logits[: rows * vocabulary].view(rows, vocabulary)

    def _parts(self, count: int, fewest: int) -> list[int]:
        """Return where parts begin, and where the last one ends."""
        parts = min(self._team.threads, max(count // fewest, 1))
        return [count * part // parts for part in range(parts + 1)]


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
