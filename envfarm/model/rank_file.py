"""Reads a vocabulary that is stored as ranks, a line of base64 and a number for each token, as Qwen2's is. PURE.

Which pair a token was merged from is not stored: it is what the lower ranks make of its bytes.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from envfarm.errors import CheckpointError
from envfarm.model.byte_level import byte_level_description, letter_of_byte

QWEN2_TAGS: Mapping[str, int] = {
    "<|endoftext|>": 151_643,
    "<|im_start|>": 151_644,
    "<|im_end|>": 151_645,
    "<tool_call>": 151_657,
    "</tool_call>": 151_658,
    "<tool_response>": 151_665,
    "</tool_response>": 151_666,
    "<think>": 151_667,
    "</think>": 151_668,
}
"""Numbers of the tags beside Qwen2's ranks, which end at 151,642."""


def describe_ranks(content: bytes, source: str) -> dict[str, Any]:
    """Return the same vocabulary as a tokenizer.json would say it.

    Raises:
        CheckpointError: A line is malformed, ranks have gaps, or a token has no pair that it was merged from.
    """
    ranks = _parse(content, source)
    letters = letter_of_byte()
    vocabulary = {"".join(map(letters.__getitem__, token)): rank for token, rank in ranks.items()}
    merges = []
    for token, rank in ranks.items():
        if len(token) > 1:
            parts = _merge([token[place : place + 1] for place in range(len(token))], ranks, rank)
            if len(parts) != 2:  # noqa: PLR2004 -- a pair
                message = f"{source}: rank {rank} is merged from {len(parts)} tokens"
                raise CheckpointError(message)
            merges.append(["".join(map(letters.__getitem__, part)) for part in parts])
    return byte_level_description(vocabulary, merges, QWEN2_TAGS, composes=True)


def _parse(content: bytes, source: str) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines()):
        encoded, _, rank = line.partition(b" ")
        try:
            token = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            token = b""
        if not token or rank != str(number).encode() or token in ranks:
            message = f"{source}: line {number + 1} has to be a new token in base64 and the rank {number}"
            raise CheckpointError(message)
        ranks[token] = number
    if len(ranks) != QWEN2_TAGS["<|endoftext|>"]:
        message = f"{source}: it has {len(ranks):,} ranks, and Qwen2's vocabulary has {QWEN2_TAGS['<|endoftext|>']:,}"
        raise CheckpointError(message)
    return ranks


def _merge(parts: list[bytes], ranks: Mapping[bytes, int], below: int) -> list[bytes]:
    """Return what is left when every pair of a rank lower than `below` is merged, lowest first."""
    while len(parts) > 1:
        pairs = [ranks.get(parts[place] + parts[place + 1], below) for place in range(len(parts) - 1)]
        lowest = min(pairs)
        if lowest >= below:
            return parts
        place = pairs.index(lowest)
        parts = [*parts[:place], parts[place] + parts[place + 1], *parts[place + 2 :]]
    return parts
