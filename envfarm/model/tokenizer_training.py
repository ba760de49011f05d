"""Learns a vocabulary of our own from texts: byte-level BPE, digits single, tags as tokens of their own."""

import json
from collections.abc import Iterable
from typing import Any

from envfarm.errors import SettingsError
from envfarm.model.byte_level import SPLIT, byte_level_description, letter_of_byte
from envfarm.model.chat_template import TAGS
from envfarm.model.tokenizer import DOCUMENT_END, Tokenizer


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Return a vocabulary of at most `size` tokens, learned from texts; the same texts give the same vocabulary.

    All 256 bytes are in it, so that every text can be written; its last tokens are the tags.

    Raises:
        SettingsError: `size` has no room for bytes and tags.
    """
    from tokenizers import Regex, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Encoder

    tags = (DOCUMENT_END, *TAGS)
    letters = sorted(letter_of_byte().values())
    if size < len(letters) + len(tags):
        message = f"a vocabulary needs at least {len(letters) + len(tags)} tokens: {len(letters)} bytes and the tags"
        raise SettingsError(message)
    encoder = Encoder(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoder.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    trainer = trainers.BpeTrainer(vocab_size=size - len(tags), initial_alphabet=letters, show_progress=False)
    encoder.train_from_iterator(texts, trainer)
    learned: dict[str, Any] = json.loads(encoder.to_str())["model"]
    first = len(learned["vocab"])
    numbered = {tag: first + place for place, tag in enumerate(tags)}
    return Tokenizer(
        byte_level_description(learned["vocab"], learned["merges"], numbered, composes=False), "vocabulary"
    )
