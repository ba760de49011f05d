"""What our byte-level vocabularies look like: how text is cut before merging, and how bytes are written. PURE."""

from collections.abc import Mapping, Sequence
from typing import Any

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's: words with the space before them, digits one by one, punctuation, line breaks."""


def letter_of_byte() -> dict[int, str]:
    """Return the letter that stands for each byte in a vocabulary: itself if it is printable, else one from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    rest = [byte for byte in range(256) if byte not in set(printable)]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(rest)}


def byte_level_description(
    vocabulary: Mapping[str, int], merges: Sequence[Sequence[str]], tags: Mapping[str, int], *, composes: bool
) -> dict[str, Any]:
    """Return what tokenizer.json holds for a vocabulary.

    Args:
        vocabulary: Tokens in letters of `letter_of_byte`.
        merges: Pairs, first merged first.
        tags: Tokens that are no text.
        composes: Text is brought to Unicode's form C first, as the real model's is; else it is kept verbatim.
    """
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    letters = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "added_tokens": [_added(tag, token) for tag, token in tags.items()],
        "normalizer": {"type": "NFC"} if composes else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, letters]},
        "post_processor": None,
        "decoder": letters,
        "model": {"type": "BPE", "vocab": dict(vocabulary), "merges": [list(pair) for pair in merges]},
    }


def _added(tag: str, token: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token, "content": tag, **flags, "special": True}
