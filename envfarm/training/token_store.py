"""A corpus as tokens on disk, and its documents' places; made once, read by mapping.

Every document ends with the token that stands between documents.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envfarm.errors import SettingsError
from envfarm.model.tokenizer import DOCUMENT_END, Tokenizer, load_tokenizer
from envfarm.model.tokenizer_training import train_tokenizer
from envfarm.training.corpus import read_documents

_TOKENS, _STARTS = "tokens.bin", "starts.npy"


@dataclass(frozen=True)
class TokenStore:
    """The tokens of all documents, one after the other.

    Attributes:
        tokens: Every token, mapped.
        starts: Where each document begins, and at last where the last one ends.
        text_bytes: How many bytes of UTF-8 they stand for.
    """

    tokens: NDArray[np.uint16]
    starts: NDArray[np.int64]
    text_bytes: int


def learn_vocabulary(data: Path, size: int, most_bytes: int) -> Tokenizer:
    """Return a vocabulary learned from every n-th document of the training split, about `most_bytes` of them."""
    total = sum(len(document.text) for document in read_documents(data, "train"))
    every = max(total // most_bytes, 1)
    return train_tokenizer(_every_nth(data, every), size)


def _every_nth(data: Path, every: int) -> Iterator[str]:
    for number, document in enumerate(read_documents(data, "train")):
        if number % every == 0:
            yield document.text


def open_token_store(data: Path, tokenizer: Tokenizer, folder: Path) -> TokenStore:
    """Return the training split as tokens; they are made where `folder` does not hold them yet.

    Raises:
        SettingsError: There is no document.
    """
    if not (folder / _STARTS).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _write(data, tokenizer, folder)
    starts: NDArray[np.int64] = np.load(folder / _STARTS)
    if len(starts) < 2:  # noqa: PLR2004 -- one document has a beginning and an end
        message = f"{data}: there is no document to train on"
        raise SettingsError(message)
    meta = json.loads((folder / "text.json").read_text(encoding="utf-8"))
    return TokenStore(np.memmap(folder / _TOKENS, dtype=np.uint16, mode="r"), starts, int(meta["bytes"]))


def _write(data: Path, tokenizer: Tokenizer, folder: Path) -> None:
    end = tokenizer.tags[DOCUMENT_END]
    starts, text_bytes = [0], 0
    with (folder / _TOKENS).open("wb") as stream:
        for document in read_documents(data, "train"):
            tokens = np.asarray([*tokenizer.encode(document.text), end], dtype=np.uint16)
            stream.write(tokens.tobytes())
            starts.append(starts[-1] + len(tokens))
            text_bytes += len(document.text.encode())
    (folder / "text.json").write_text(json.dumps({"bytes": text_bytes}), encoding="utf-8")
    unfinished = folder / f"unfinished-{_STARTS}"
    np.save(unfinished, np.asarray(starts, dtype=np.int64))
    unfinished.replace(folder / _STARTS)


def open_vocabulary(folder: Path, data: Path, size: int, most_bytes: int) -> Tokenizer:
    """Return the run's vocabulary; it is learned where `folder` does not hold one yet."""
    if not (folder / "tokenizer.json").is_file():
        unfinished = folder / "vocabulary.unfinished"
        unfinished.mkdir(parents=True, exist_ok=True)
        learn_vocabulary(data, size, most_bytes).save(unfinished)
        (unfinished / "tokenizer.json").replace(folder / "tokenizer.json")
        unfinished.rmdir()
    return load_tokenizer(folder)
