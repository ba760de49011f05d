"""What goes through the model in one step: everybody who generates, and a chunk of prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

from envfarm.model.engine.generation import Generation
from envfarm.model.engine.row_memory import Part
from envfarm.model.engine.seating import Seating


@dataclass(frozen=True)
class Turn:
    """What one request does in one step.

    Attributes:
        generation: The request.
        tokens: What goes through the model; the last `drafts` of them are guesses.
        drafts: How many guesses.
        start: Where its tokens begin in the step's flat row.
    """

    generation: Generation
    tokens: Sequence[int]
    drafts: int
    start: int

    @property
    def stop(self) -> int:
        """Where its tokens end in the flat row."""
        return self.start + len(self.tokens)


def plan_step(seating: Seating, chunk_tokens: int) -> tuple[list[Part], list[Turn]]:
    """Return the parts of the next forward, and who does what in it; both in the order of the flat row.

    Rows of like length that go on by equally many tokens share a part: a short row is not filled up to a long one.
    Those that have just begun stand apart: they see nothing but their own tokens.
    """
    groups: dict[tuple[int, int], list[tuple[Generation, int]]] = {}
    budget = chunk_tokens
    for generation in list(seating.running):
        seat, waiting = generation.seat, generation.waiting_tokens
        if seat is None or not waiting:
            continue
        drafts = len(generation.drafts) if waiting == 1 else 0
        count = 1 + drafts
        is_prompt = waiting > 1 or not seat.tokens
        if is_prompt:
            # Guesses of a request that lost its seat are verified in a step of their own.
            count = min(waiting - bool(generation.drafts), budget)
        if not count or not seating.make_room(generation, seat.tokens + count):
            continue
        if is_prompt:
            budget -= count
        blocks = len(seat.blocks).bit_length() if seat.tokens else 0
        groups.setdefault((count, blocks), []).append((generation, drafts))
    parts, turns, start = [], [], 0
    for (count, _), members in groups.items():
        seated = [(one, drafts, one.seat) for one, drafts in members if one.seat is not None]
        if not seated:  # a younger request may have lost its seat to an older one
            continue
        parts.append(Part([seat for _, _, seat in seated], count))
        for generation, drafts, seat in seated:
            known = generation.tokens[seat.tokens : seat.tokens + count]
            turns.append(Turn(generation, [*known, *generation.drafts[:drafts]], drafts, start))
            start += count
    return parts, turns
