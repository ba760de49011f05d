"""Coins of one grading: all of them follow from one secret seed, so that a grading can be gone on with. PURE."""

import hashlib
from collections.abc import Callable

Draw = Callable[[int], int]
"""``draw(n)`` is one of 0 to n - 1."""
SEED_BYTES = 32


def draws(seed: bytes, purpose: str) -> Draw:
    """Return the coins for one purpose; who does not know the seed cannot tell them from chance.

    Args:
        seed: `SEED_BYTES` from the operating system; something known where the same coins are wanted everywhere.
        purpose: Each has a row of coins of its own.
    """
    state = [hashlib.sha256(seed + b"\0" + purpose.encode()).digest()]

    def draw(sides: int) -> int:
        state[0] = hashlib.sha256(state[0]).digest()
        return int.from_bytes(state[0][:8], "big") % sides

    return draw


def shuffled(count: int, draw: Draw) -> list[int]:
    """Return the numbers below `count` in an order by coins."""
    left = list(range(count))
    return [left.pop(draw(len(left))) for _ in range(count)]
