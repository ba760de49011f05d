"""A corpus on disk: a folder with `train.jsonl`, `held_out.jsonl` and `manifest.json`.

A line of the first two is one document: project, path, domain, text. Anything that has these files is a corpus, whoever
made it; `manifest.json` may be absent.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from envfarm.errors import SettingsError

Split = Literal["train", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "held_out")
MANIFEST = "manifest.json"
_CHUNK = 1 << 20


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a project.

    Attributes:
        project: Whose it is.
        path: Where it lies in there.
        domain: What kind of text it is, such as `python` or `prose`.
        text: All of it.
    """

    project: str
    path: str
    domain: str
    text: str


def split_file(folder: Path, split: Split) -> Path:
    """Return where the documents of a split lie."""
    return folder / f"{split}.jsonl"


def read_documents(folder: Path, split: Split) -> Iterator[Document]:
    """Yield the documents of a split in the order of the file.

    Raises:
        SettingsError: The file is missing or a line of it is no document; the message names both.
    """
    path = split_file(folder, split)
    decoder = msgspec.json.Decoder(Document)
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    yield decoder.decode(line)
                except msgspec.DecodeError as error:
                    message = f"{path}:{number}: no document: {error}"
                    raise SettingsError(message) from error
    except OSError as error:
        message = (
            f"{path}: cannot be read ({error.strerror}): --data takes a folder that `envfarm train fetch-corpus` made"
        )
        raise SettingsError(message) from error


def digest_of(folder: Path, split: Split) -> str:
    """Return the SHA-256 of a split's file, in hexadecimal digits.

    Raises:
        SettingsError: It cannot be read.
    """
    path = split_file(folder, split)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        message = (
            f"{path}: cannot be read ({error.strerror}): --data takes a folder that `envfarm train fetch-corpus` made"
        )
        raise SettingsError(message) from error
    return digest.hexdigest()
