"""Text to tokens and back: byte-level BPE, the tags of conversations as tokens of their own.

Text that somebody wrote never becomes a tag: `encode` knows no tags, `encode_pieces` takes them from the template only.
Every token is some bytes; a character may lie across several, so text is decoded from bytes and never from tokens.

Not covered: vocabularies that are not byte-level.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envfarm.errors import CheckpointError
from envfarm.model.byte_level import byte_level_description, letter_of_byte
from envfarm.model.chat_template import TAGS, TURN_END, Piece

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Encoder

TOKENIZER_FILE = "tokenizer.json"
DOCUMENT_END = "<|endoftext|>"
"""Stands between documents; the real model's padding."""

_MOST_COMPOSED = 4
"""Characters that Unicode's form C makes one of, at most."""


class Tokenizer:
    """A vocabulary in use.

    Attributes:
        tags: Tokens that are no text, by name; those of conversations among them.
        size: One more than the highest token.
        end_tokens: A turn or a document ends with one of these.
    """

    def __init__(self, description: Mapping[str, Any], source: str) -> None:
        """Take what a tokenizer.json holds; `source` is what messages call it.

        Raises:
            CheckpointError: It is damaged, no byte-level BPE, cuts text in a way of its own, or lacks a tag.
        """
        vocabulary, merges = _checked_model(description, source)
        composes = _checked_reading(description, source)
        self.tags = _checked_tags(description, source)
        written = {text: token for text, token in vocabulary.items() if text not in self.tags}
        self._description = byte_level_description(written, merges, self.tags, composes=composes)
        alphabet = {letter: byte for byte, letter in letter_of_byte().items()}
        self._bytes = {token: bytes(alphabet[letter] for letter in text) for text, token in written.items()}
        self._bytes |= {token: tag.encode() for tag, token in self.tags.items()}
        self.size = max(self._bytes) + 1
        self.end_tokens = frozenset(self.tags[tag] for tag in (TURN_END, DOCUMENT_END) if tag in self.tags)
        self._longest_text = max(map(len, self._bytes.values())) * (_MOST_COMPOSED if composes else 1)
        self._encoder = _encoder({**self._description, "added_tokens": []})

    def encode(self, text: str) -> list[int]:
        """Return the tokens of text as somebody wrote it: what looks like a tag stays text."""
        tokens: list[int] = self._encoder.encode(text, add_special_tokens=False).ids
        return tokens

    def encode_pieces(self, pieces: Iterable[Piece]) -> list[int]:
        """Return the tokens of a rendered conversation: tags as one token each, the rest as plain text."""
        tokens: list[int] = []
        for piece in pieces:
            tokens += [self.tags[piece.text]] if piece.is_tag else self.encode(piece.text)
        return tokens

    def most_characters(self, tokens: int) -> int:
        """Return how long a text can be that has so few tokens: a longer one need not be encoded to be refused."""
        return tokens * self._longest_text

    def token_bytes(self, token: int) -> bytes:
        """Return what a token stands for in UTF-8, tags by name; nothing for a number that the vocabulary lacks."""
        return self._bytes.get(token, b"")

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens, tags by name; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", "replace")

    def save(self, folder: Path) -> None:
        """Write the vocabulary beside a checkpoint."""
        text = json.dumps(self._description, ensure_ascii=False, indent=1)
        (folder / TOKENIZER_FILE).write_text(text + "\n", encoding="utf-8")


def load_tokenizer(path: Path) -> Tokenizer:
    """Return the vocabulary in a checkpoint's folder, a tokenizer.json, or a file of ranks (`*.tiktoken`).

    Raises:
        CheckpointError: There is none, or it cannot be read or used.
    """
    path = path / TOKENIZER_FILE if path.is_dir() else path
    try:
        content = path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
        raise CheckpointError(message) from error
    if path.suffix == ".tiktoken":
        from envfarm.model.rank_file import describe_ranks

        return Tokenizer(describe_ranks(content, path.name), path.name)
    try:
        description = json.loads(content)
    except (ValueError, RecursionError) as error:
        message = f"{path}: it is not JSON: {error}"
        raise CheckpointError(message) from error
    if not isinstance(description, dict):
        message = f"{path}: it is no JSON object"
        raise CheckpointError(message)
    return Tokenizer(description, path.name)


def _checked_model(description: Mapping[str, Any], source: str) -> tuple[dict[str, int], list[list[str]]]:
    """Return vocabulary and merges; the library would take some that are damaged, and tells no error apart."""
    model, decoder = description.get("model"), description.get("decoder")
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(decoder, dict):
        raise _refusal(source, "it is no byte-level BPE")
    vocabulary, pairs = model.get("vocab"), model.get("merges")
    if decoder.get("type") != "ByteLevel" or not isinstance(vocabulary, dict) or not isinstance(pairs, list):
        raise _refusal(source, "it is no byte-level BPE")
    if not all(type(token) is int and token >= 0 for token in vocabulary.values()):
        raise _refusal(source, "its vocabulary does not give every token a number")
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in pairs]
    for pair in merges:
        is_pair = isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)  # noqa: PLR2004 -- a pair
        if not is_pair or not {*pair, "".join(pair)} <= vocabulary.keys():
            raise _refusal(source, f"the merge {pair!r} is not of two tokens that make a third")
    letters = letter_of_byte().values()
    if missing := [letter for letter in letters if letter not in vocabulary]:
        raise _refusal(source, f"it has no token for {len(missing)} of 256 bytes")
    tags = {tag.get("content") for tag in description.get("added_tokens") or () if isinstance(tag, dict)}
    strange = [text for text in vocabulary if text not in tags and not set(text) <= set(letters)]
    if strange:
        raise _refusal(source, f"{strange[0]!r} is neither bytes nor a tag")
    return vocabulary, merges


def _checked_reading(description: Mapping[str, Any], source: str) -> bool:
    """Return whether text is composed first; refuse a way to cut text that is not ours, which is Qwen2's."""
    normalizer, cut = description.get("normalizer"), description.get("pre_tokenizer")
    ours = byte_level_description({}, [], {}, composes=True)
    steps = cut.get("pretokenizers") if isinstance(cut, dict) else None
    pattern = steps[0].get("pattern") if isinstance(steps, list) and steps and isinstance(steps[0], dict) else None
    if pattern != ours["pre_tokenizer"]["pretokenizers"][0]["pattern"]:
        raise _refusal(source, "it cuts text in another way than Qwen2's vocabulary")
    if normalizer not in (None, ours["normalizer"]):
        raise _refusal(source, "its normalizer is neither none nor NFC")
    return normalizer is not None


def _checked_tags(description: Mapping[str, Any], source: str) -> dict[str, int]:
    added = description.get("added_tokens") or ()
    tags = {}
    for token in added:
        if not isinstance(token, dict) or type(token.get("id")) is not int or not isinstance(token.get("content"), str):
            raise _refusal(source, "added_tokens have to have a content and an id")
        tags[token["content"]] = token["id"]
    if missing := [tag for tag in TAGS if tag not in tags]:
        raise _refusal(source, f"it has no token for {', '.join(missing)}")
    return tags


def _refusal(source: str, complaint: str) -> CheckpointError:
    return CheckpointError(f"{source}: {complaint}")


def _encoder(description: Mapping[str, Any]) -> "Encoder":
    from tokenizers import Tokenizer as Encoder

    return Encoder.from_str(json.dumps(description))
