"""Who has a seat: requests that run, those that wait, and conversations that are kept for a later turn.

Older requests come first. A request takes blocks for its whole prompt when it is seated; when a running one finds no
block to go on, kept conversations go first, and then the youngest running request: it waits and is computed again.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from envfarm.model.engine.generation import Generation, RoutingRecord
from envfarm.model.engine.limits import EngineCounts, EngineLimits
from envfarm.model.engine.row_memory import RowMemory, Seat


@dataclass
class Kept:
    """A conversation between two turns."""

    seat: Seat
    tokens: list[int]
    routing: RoutingRecord
    recent_R_D: Tensor | None
    drafted_length: int


class Seating:
    """Waiting, running and kept; every seat of the memory belongs to one of the latter two."""

    def __init__(self, memory: RowMemory, limits: EngineLimits, counts: EngineCounts) -> None:
        self.waiting: deque[Generation] = deque()
        self.running: list[Generation] = []
        self.kept: OrderedDict[str, Kept] = OrderedDict()
        self._memory = memory
        self._limits = limits
        self._counts = counts

    def admit(self) -> None:
        """Seat those who wait, first come first served, as long as there are rows and blocks for their prompts."""
        while self.waiting and len(self.running) < self._limits.running:
            if not self._seat(self.waiting[0]):
                return
            self.running.append(self.waiting.popleft())
            self.running.sort(key=lambda generation: generation.request_id)

    def make_room(self, generation: Generation, tokens: int) -> bool:
        """Return whether a running request has room for so many tokens; it may have lost its seat instead."""
        if generation.seat is None:
            return False
        if not self._memory.blocks_missing(generation.seat, tokens):
            return True
        while self._memory.blocks_missing(generation.seat, tokens) > self._memory.pool.free_blocks:
            if self._drop_oldest_kept():
                continue
            youngest = self.running[-1]
            self._counts.preemptions += 1
            self.running.remove(youngest)
            self.waiting.appendleft(youngest)
            self._unseat(youngest)
            if youngest is generation:
                return False
        self._memory.make_room(generation.seat, tokens)
        return True

    def end(self, generation: Generation, *, keep: bool) -> None:
        """Take a request out; its memory is free at once, or kept for the conversation's next turn."""
        if generation in self.waiting:
            self.waiting.remove(generation)
            return
        self.running.remove(generation)
        conversation, seat = generation.request.conversation, generation.seat
        if not keep or conversation is None or seat is None or not self._limits.kept_conversations:
            self._unseat(generation)
            return
        self.drop(conversation)
        while len(self.kept) >= self._limits.kept_conversations:
            self._drop_oldest_kept()
        generation.seat = None
        tokens = generation.tokens[: seat.tokens]
        length = min(generation.drafted_length, len(tokens))
        self.kept[conversation] = Kept(seat, tokens, generation.routing, generation.recent_R_D, length)

    def drop(self, conversation: str) -> None:
        """Forget a kept conversation, if there is one."""
        kept = self.kept.pop(conversation, None)
        if kept is not None:
            self._memory.leave(kept.seat)

    def _seat(self, generation: Generation) -> bool:
        """Give a seat with blocks for all its tokens, an earlier turn's if it goes on from there."""
        conversation = None if generation.generated_tokens else generation.request.conversation
        kept = self.kept.pop(conversation, None) if conversation is not None else None
        shared = 0 if kept is None else self._shared(kept, generation)
        if kept is not None and not shared:
            self._memory.leave(kept.seat)
            kept = None
        seat = kept.seat if kept is not None else Seat(-1)
        while self._memory.blocks_missing(seat, len(generation.tokens)) > self._memory.pool.free_blocks:
            if not self._drop_oldest_kept():
                if kept is not None and conversation is not None:
                    self.kept[conversation] = kept
                return False
        if kept is None:
            seat = self._memory.take_seat()
        else:
            self._memory.forget_from(seat, shared)
            generation.reused_tokens = shared
            generation.routing = kept.routing.first(shared)
            generation.drafted_length = min(kept.drafted_length, shared)
            if kept.recent_R_D is not None:
                generation.recent_R_D = kept.recent_R_D[: shared - len(kept.tokens) or None]
            self._counts.reused_tokens += shared
        self._memory.make_room(seat, len(generation.tokens))
        generation.seat = seat
        return True

    def _shared(self, kept: Kept, generation: Generation) -> int:
        """Return how many tokens of an earlier turn can be used: all but the last few, or none."""
        shared = min(shared_length(kept.tokens, generation.tokens), len(generation.tokens) - 1)
        has_routing = not generation.request.routing_wanted or kept.routing.tokens >= shared
        return shared if has_routing and self._memory.can_forget_from(kept.seat, shared) else 0

    def _drop_oldest_kept(self) -> bool:
        if not self.kept:
            return False
        self.drop(next(iter(self.kept)))
        return True

    def _unseat(self, generation: Generation) -> None:
        if generation.seat is not None:
            self._memory.leave(generation.seat)
        # Guesses stay: what comes of a request must not depend on whether another one took its memory.
        generation.seat, generation.recent_R_D, generation.drafted_length = None, None, 0


def shared_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two sequences begin with alike."""
    longest = min(len(first), len(second))
    if list(first[:longest]) == list(second[:longest]):
        return longest
    return next(place for place in range(longest) if first[place] != second[place])
