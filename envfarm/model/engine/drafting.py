"""Guesses the next tokens of requests with the model's own MTP blocks, one pass of each block for all of them.

With L tokens known, the main model's hidden states are known up to row L - 2. Block k guesses token L + k in row L - 2
from that hidden state and the guess before. Its rows t that took a guess as token t + 1 + k are computed again when the
token is known: a pass goes over the newest rows and replaces what the block's ring holds of them.
A block has one layer, so that its keys and values depend on their own row only: rows further back than the window's
reach are never needed, and the newest hidden states are all that is kept of a request.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from envfarm.model.config import LayerKind, MiMoConfig
from envfarm.model.engine.generation import Generation
from envfarm.model.engine.logit_changes import Before, change_logits
from envfarm.model.engine.sampling import luck, pick, token_probabilities
from envfarm.model.engine.step_forward import DraftRun, Logits, StepForward


class Drafter:
    """The MTP blocks in use.

    Args of the constructor: the model's sizes; what runs it; how many tokens to guess.
    """

    def __init__(self, config: MiMoConfig, forward: StepForward, draft_tokens: int) -> None:
        self._forward = forward
        self._draft_tokens = draft_tokens
        reach = config.attention(LayerKind.WINDOW).reach_tokens or 0
        self._kept_rows = reach + 1 + 2 * draft_tokens

    def note(self, generation: Generation, hidden_T_D: Tensor) -> None:
        """Keep the hidden states of tokens that went through the main model and are there to stay."""
        if not self._draft_tokens:
            return
        recent, seat = generation.recent_R_D, generation.seat
        length = hidden_T_D.shape[0] + (0 if seat is None else seat.tokens)
        # What blocks have not seen, what they see again, and what a later turn may take back.
        kept = min(self._kept_rows, length - generation.drafted_length + 3 * self._draft_tokens + 4)
        missing = kept - hidden_T_D.shape[0]
        if recent is None or missing <= 0:
            generation.recent_R_D = hidden_T_D[-kept:].clone()
        else:
            generation.recent_R_D = torch.cat((recent[-missing:], hidden_T_D))

    def draft(self, generations: Sequence[Generation]) -> None:
        """Guess the next tokens of requests that generate, all of whose tokens but the last went through the model."""
        going = [one for one in generations if self._wanted(one)]
        if not going:
            return
        quick = {place: run for place, one in enumerate(going) if (run := self._whole_run(one)) is not None}
        slow = [one for place, one in enumerate(going) if place not in quick]
        if quick:
            found = self._forward.guess_all(list(quick.values()), self._draft_tokens)
            for place, tokens in zip(quick, found, strict=True):
                self._set(going[place], tokens, [])
        if slow:
            self._draft_by_block(slow)

    def _draft_by_block(self, going: Sequence[Generation]) -> None:
        guessed: list[list[int]] = [[] for _ in going]
        drawn_from: list[list[Tensor]] = [[] for _ in going]
        for block in range(self._draft_tokens):
            logits = self._run(block, going, guessed)
            tokens = self._pick(block, going, guessed, logits, drawn_from)
            for own, token in zip(guessed, tokens, strict=True):
                own.append(token)
        for one, tokens_of_one, probabilities in zip(going, guessed, drawn_from, strict=True):
            self._set(one, tokens_of_one, probabilities)

    def _set(self, generation: Generation, tokens: Sequence[int], probabilities: Sequence[Tensor]) -> None:
        count = self._wanted(generation)
        generation.drafts = list(tokens[:count])
        generation.draft_probabilities = torch.stack(list(probabilities[:count])) if probabilities else None
        generation.drafted_length = len(generation.tokens)

    def _whole_run(self, generation: Generation) -> DraftRun | None:
        """Return the rows of all blocks if they can run without a stop: tokens are not drawn, and rows are there."""
        seat, recent_R_D = generation.seat, generation.recent_R_D
        is_drawn = not generation.request.sampling.takes_likeliest
        if is_drawn or seat is None or recent_R_D is None or not self._forward.can_guess_all:
            return None
        known, earlier = len(generation.tokens), self._draft_tokens - 1
        rows = known - generation.drafted_length
        if rows + earlier > min(recent_R_D.shape[0], known - 1):
            return None
        tokens = generation.tokens[known - rows - earlier :]
        return DraftRun(seat, known - 1 - rows, tokens, recent_R_D[-rows - earlier :])

    @staticmethod
    def _pick(
        block: int,
        going: Sequence[Generation],
        guessed: Sequence[Sequence[int]],
        logits: Logits,
        drawn_from: Sequence[list[Tensor]],
    ) -> list[int]:
        """Return each request's next guess; append what it was drawn from where it was drawn."""
        tokens = list(logits.likeliest)
        places = [place for place, one in enumerate(going) if not one.request.sampling.takes_likeliest]
        if not places:
            return tokens
        requests = [going[place] for place in places]
        samplings = [one.request.sampling for one in requests]
        before = [
            Before(sampling, [*one.tokens, *guessed[place]] if sampling.penalises else (), one.generated_tokens + block)
            for place, one, sampling in zip(places, requests, samplings, strict=True)
        ]
        probabilities_B_V = token_probabilities(change_logits(logits.logits_R_V[places], before), samplings)
        lucks = [luck(one.request.sampling.seed, one.generated_tokens + block, "draft") for one in requests]
        picked = pick(probabilities_B_V, torch.tensor(lucks, dtype=torch.float64, device=probabilities_B_V.device))
        for row, (place, token) in enumerate(zip(places, picked.tolist(), strict=True)):
            tokens[place] = token
            if samplings[row].temperature > 0:
                drawn_from[place].append(probabilities_B_V[row])
        return tokens

    def _wanted(self, generation: Generation) -> int:
        """Return how many guesses a request can use: a token more than them comes of each step."""
        if not generation.is_free or generation.seat is None or generation.recent_R_D is None:
            return 0
        return min(self._draft_tokens, generation.request.most_tokens - generation.generated_tokens - 1)

    def _run(self, block: int, going: Sequence[Generation], guessed: Sequence[Sequence[int]]) -> Logits:
        """Run one block over the newest rows of each request; return what its guesses come from."""
        runs = []
        for one, guesses in zip(going, guessed, strict=True):
            if one.seat is not None and one.recent_R_D is not None:  # as `_wanted` has seen to
                rows, known = self._rows(one, block), len(one.tokens)
                following = [*one.tokens[known - rows :], *guesses][block:]
                runs.append(DraftRun(one.seat, known - 1 - rows, following, one.recent_R_D[-rows:]))
        return self._forward.guess(block, runs)

    def _rows(self, generation: Generation, block: int) -> int:
        """Return how many rows to compute: what is new or was a guess; as many for all, where that costs little."""
        known = len(generation.tokens)
        needed = known - generation.drafted_length + block
        kept = 0 if generation.recent_R_D is None else generation.recent_R_D.shape[0]
        if self._forward.evens_rows:
            needed = max(needed, self._draft_tokens + 1 + block)
        return min(needed, kept, known - 1)
