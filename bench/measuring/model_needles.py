"""A needle in a file: a line near the beginning gives a name a digit, the last line asks for it; chance is 1 in 10."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from envfarm.model.mimo import MiMo
from envfarm.model.tokenizer import Tokenizer

_TRIALS = 40
_TIMES = (1, 2, 4, 8)
_BASES = (1.0, 5_000_000 / 640_000)
"""The global layers' rotary base as it was trained, and longer by the factor of the report."""


@torch.no_grad()
def needle_rows(model: MiMo, vocabulary: Tokenizer, stream: Sequence[int], row_tokens: int) -> Iterator[str]:
    """Yield a line for each rotary base and length."""
    digits = [vocabulary.encode(str(digit))[0] for digit in range(10)]
    for factor in _BASES:
        config = replace(model.config, rope_theta=model.config.rope_theta * factor)
        extended = MiMo(config).eval()
        extended.load_state_dict(model.state_dict())
        for times in _TIMES:
            luck, right = random.Random(times), 0  # noqa: S311 -- trials have to be the same each time
            for _ in range(_TRIALS):
                tokens, digit = _trial(vocabulary, stream, times * row_tokens, luck)
                last = extended(torch.tensor([tokens])).hidden_B_T_D[0, -1]
                logits = extended.lm_head(last)
                right += int(logits[digits].argmax()) == digit
            yield (
                f"needle, {times} x training length ({times * row_tokens:,} tokens), rotary base "
                f"{config.rope_theta:,.0f}: {right} of {_TRIALS} (chance {_TRIALS // 10})"
            )


def _trial(vocabulary: Tokenizer, stream: Sequence[int], length: int, luck: random.Random) -> tuple[list[int], int]:
    digit, name = luck.randrange(10), f"needle_{luck.choice('abcdefgh')}"
    needle, question = vocabulary.encode(f"\n{name} = {digit}\n"), vocabulary.encode(f"\nassert {name} == ")
    room = length - len(needle) - len(question)
    start = luck.randrange(max(len(stream) - room, 1))
    hay = list(stream[start : start + room])
    depth = luck.randrange(max(len(hay) // 4, 1))
    return [*hay[:depth], *needle, *hay[depth:], *question], digit
