"""Where the tokens of one forward stand: positions, padding, documents packed into one row; and who sees whom."""

from dataclasses import dataclass

import torch
from torch import Tensor

PADDING = -1
_NEVER = 1 << 62
HIDDEN = -1e30
"""Added to the score of a key that may not be seen: finite, so that a token that sees nothing gets no NaN."""


@dataclass(frozen=True)
class Layout:
    """Where tokens stand; a token sees keys of its own document, from itself back to its layer's reach.

    Attributes:
        positions_B_T: Position of each token in its document, int64; -1 for padding, which sees nothing.
        documents_B_T: Which document of its row a token belongs to; None where each row is one document.
        is_plain: Every row is one document without padding that starts at 0: known when made, never looked up.
    """

    positions_B_T: Tensor
    documents_B_T: Tensor | None = None
    is_plain: bool = False

    @classmethod
    def plain(cls, rows: int, tokens: int, device: torch.device | str | None = None) -> "Layout":
        """Return rows of equal length without padding."""
        return cls(torch.arange(tokens, device=device).expand(rows, tokens), is_plain=True)

    @classmethod
    def padded(cls, real_B_T: Tensor) -> "Layout":
        """Return rows with padding where the mask is 0, at either end or in between."""
        real = real_B_T.bool()
        return cls(torch.where(real, real.long().cumsum(1) - 1, PADDING))

    @classmethod
    def packed(cls, documents_B_T: Tensor) -> "Layout":
        """Return rows of several documents: runs of one number, each from position 0; negative numbers are padding."""
        places = torch.arange(documents_B_T.shape[1], device=documents_B_T.device).expand_as(documents_B_T)
        starts = torch.ones_like(documents_B_T, dtype=torch.bool)
        starts[:, 1:] = documents_B_T[:, 1:] != documents_B_T[:, :-1]
        begin = torch.where(starts, places, 0).cummax(1).values
        return cls(torch.where(documents_B_T < 0, PADDING, places - begin), starts.long().cumsum(1))

    @classmethod
    def following(cls, lengths_B: Tensor, tokens: int) -> "Layout":
        """Return tokens that go on after `lengths_B` earlier ones of each row, which a cache holds."""
        return cls(lengths_B[:, None] + torch.arange(tokens, device=lengths_B.device))

    def first(self, tokens: int) -> "Layout":
        """Return the first tokens of each row."""
        part = self.part(0, tokens)
        return Layout(part.positions_B_T, part.documents_B_T, self.is_plain)

    def part(self, start: int, stop: int) -> "Layout":
        """Return the tokens from `start` up to, not including, `stop` of each row."""
        documents = None if self.documents_B_T is None else self.documents_B_T[:, start:stop]
        return Layout(self.positions_B_T[:, start:stop], documents)


def visible_bias(queries: Layout, keys: Layout, reach_tokens: int | None, dtype: torch.dtype) -> Tensor:
    """Return what to add to scores, [B, 1, T, S]: 0 where a query sees a key, `HIDDEN` elsewhere."""
    query, key = queries.positions_B_T[:, :, None], keys.positions_B_T[:, None, :]
    visible = torch.where(key < 0, _NEVER, key) <= query
    if reach_tokens is not None:
        visible &= key >= query - reach_tokens
    if queries.documents_B_T is not None and keys.documents_B_T is not None:
        visible &= queries.documents_B_T[:, :, None] == keys.documents_B_T[:, None, :]
    return torch.zeros((), dtype=dtype, device=key.device).masked_fill(~visible, HIDDEN)[:, None]
