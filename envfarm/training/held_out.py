"""How well a model knows text that it has not seen, in bits of each byte, beside gzip and xz on the same files.

The model's bits are those of a code that could be decoded: every token of a file is paid for, the first one at the
price of a uniform choice, and a token's context is the file before it, cut to the training length.
"""

import gzip
import lzma
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from envfarm.model.mimo import MiMo
from envfarm.model.tokenizer import Tokenizer
from envfarm.training.corpus import Document

_GZIP_LEVEL, _XZ_PRESET = 9, 9


@dataclass(frozen=True, kw_only=True)
class HeldOutBits:
    """Bits of each byte of UTF-8, over all files of a domain.

    Attributes:
        domain: What kind of text it is; `all` for everything.
        files: How many files.
        text_bytes: How many bytes.
        model: The model's bits per byte.
        gzip_each: Each file packed alone, as the model reads it.
        xz_each: Likewise.
        xz_together: All files in one stream, which sees the other files of a project.
    """

    domain: str
    files: int
    text_bytes: int
    model: float
    gzip_each: float
    xz_each: float
    xz_together: float


def thin_out(documents: Iterable[Document], most_bytes: int) -> list[Document]:
    """Return every n-th document, so that they have about `most_bytes` of text together."""
    every = list(documents)
    total = sum(len(document.text) for document in every)
    return every[:: max(total // most_bytes, 1)]


def measure_held_out(
    model: MiMo, vocabulary: Tokenizer, documents: Sequence[Document], row_tokens: int
) -> list[HeldOutBits]:
    """Return the bits of each domain, and of everything, which comes first."""
    bits = [document_bits(model, vocabulary.encode(document.text), row_tokens) for document in documents]
    found = []
    for domain in ("all", *sorted({document.domain for document in documents})):
        own = [place for place, document in enumerate(documents) if domain in ("all", document.domain)]
        texts = [documents[place].text.encode() for place in own]
        size = sum(map(len, texts))
        found.append(
            HeldOutBits(
                domain=domain,
                files=len(own),
                text_bytes=size,
                model=round(sum(bits[place] for place in own) / size, 4),
                gzip_each=round(8 * sum(len(gzip.compress(text, _GZIP_LEVEL)) for text in texts) / size, 4),
                xz_each=round(8 * sum(len(lzma.compress(text, preset=_XZ_PRESET)) for text in texts) / size, 4),
                xz_together=round(8 * len(lzma.compress(b"".join(texts), preset=_XZ_PRESET)) / size, 4),
            )
        )
    return found


@torch.no_grad()
def document_bits(model: MiMo, tokens: Sequence[int], row_tokens: int) -> float:
    """Return the bits of one document; each token sees between half the training length and all of it."""
    nats = math.log(model.config.vocab_size) if tokens else 0.0
    paid, stride = 1, max(row_tokens // 2, 1)
    while paid < len(tokens):
        stop = min(paid + (stride if paid > 1 else row_tokens - 1), len(tokens))
        start = max(stop - row_tokens, 0)
        row = torch.tensor([tokens[start:stop]], device=model.lm_head.weight.device)
        hidden = model(row[:, :-1]).hidden_B_T_D[0, paid - 1 - start :]
        logits_N_V = model.lm_head(hidden).float()
        nats += float(functional.cross_entropy(logits_N_V, row[0, paid - start :], reduction="sum"))
        paid = stop
    return nats / math.log(2)
