"""Packs documents into rows of equal length: which tokens a step sees follows from seed and step, and nothing else.

All documents stand one after the other, and rows are cut from them; each epoch has its own cuts and its own order of
rows, so that a step's rows are of many projects. A token sees its own document only, and a piece of a document that a
row begins with starts at position 0 again.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envfarm.errors import SettingsError
from envfarm.training.token_store import TokenStore


@dataclass(frozen=True)
class Batch:
    """The rows of one step.

    Attributes:
        tokens_B_T: Token ids, int64.
        documents_B_T: Which document of its row a token belongs to, int64, for `Layout.packed`.
    """

    tokens_B_T: Tensor
    documents_B_T: Tensor


class PackedRows:
    """The rows of a run."""

    def __init__(self, store: TokenStore, *, rows: int, row_tokens: int, seed: int) -> None:
        """Take the tokens, and the shape of a step.

        Raises:
            SettingsError: There are not enough tokens for one row.
        """
        self._store = store
        self._rows = rows
        self._row_tokens = row_tokens
        self._seed = seed
        self._epoch_rows = int(store.starts[-1]) // row_tokens - 1  # the cuts of an epoch leave out up to a row
        if self._epoch_rows < 1:
            message = f"the corpus has {int(store.starts[-1]):,} tokens: at least {2 * row_tokens:,} are needed"
            raise SettingsError(message)
        self._epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._shift = 0

    def batch(self, step: int) -> Batch:
        """Return the rows of a step."""
        shape = self._rows, self._row_tokens
        tokens, documents = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
        for row in range(self._rows):
            epoch, nth = divmod(step * self._rows + row, self._epoch_rows)
            self._enter(epoch)
            start = int(self._order[nth]) * self._row_tokens + self._shift
            places = np.arange(start, start + self._row_tokens)
            tokens[row] = self._store.tokens[start : start + self._row_tokens]
            documents[row] = np.searchsorted(self._store.starts, places, side="right") - 1
        return Batch(torch.from_numpy(tokens), torch.from_numpy(documents))

    def _enter(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        luck = np.random.default_rng([self._seed, epoch])
        self._shift = int(luck.integers(self._row_tokens))
        self._order = luck.permutation(self._epoch_rows)
        self._epoch = epoch
