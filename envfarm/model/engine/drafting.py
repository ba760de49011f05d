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

from envfarm.model.attention_pass import AttentionPass
from envfarm.model.config import LayerKind
from envfarm.model.engine.generation import Generation
from envfarm.model.engine.logit_changes import Before, change_logits
from envfarm.model.engine.row_memory import FlatPass, Part, RingRows, RowMemory, Seat
from envfarm.model.engine.sampling import luck, pick, token_probabilities
from envfarm.model.layout import Layout
from envfarm.model.mimo import MiMo


class Drafter:
    """The MTP blocks in use.

    Args of the constructor: the model; everybody's memory, with a ring for each block; how many tokens to guess.
    """

    def __init__(self, model: MiMo, memory: RowMemory, draft_tokens: int) -> None:
        self._model = model
        self._memory = memory
        self._draft_tokens = draft_tokens
        reach = model.config.attention(LayerKind.WINDOW).reach_tokens or 0
        self._kept_rows = reach + 1 + 2 * draft_tokens

    def note(self, generation: Generation, hidden_T_D: Tensor) -> None:
        """Keep the hidden states of tokens that went through the main model and are there to stay."""
        if not self._draft_tokens:
            return
        recent = generation.recent_R_D
        new = hidden_T_D if recent is None else torch.cat((recent, hidden_T_D))
        generation.recent_R_D = new[-self._kept_rows :].clone()

    def draft(self, generations: Sequence[Generation]) -> None:
        """Guess the next tokens of requests that generate, all of whose tokens but the last went through the model."""
        going = [one for one in generations if self._wanted(one)]
        if not going:
            return
        guessed: list[list[int]] = [[] for _ in going]
        drawn_from: list[list[Tensor]] = [[] for _ in going]
        for block in range(self._draft_tokens):
            logits_B_V = self._run(block, going, guessed)
            samplings = [one.request.sampling for one in going]
            before = [
                Before(sampling, [*one.tokens, *guess] if sampling.penalises else (), one.generated_tokens + block)
                for one, guess, sampling in zip(going, guessed, samplings, strict=True)
            ]
            probabilities_B_V = token_probabilities(change_logits(logits_B_V, before), samplings)
            lucks = [luck(one.request.sampling.seed, one.generated_tokens + block, "draft") for one in going]
            tokens = pick(probabilities_B_V, torch.tensor(lucks, dtype=torch.float64, device=logits_B_V.device))
            for place, token in enumerate(tokens.tolist()):
                guessed[place].append(token)
                drawn_from[place].append(probabilities_B_V[place])
        for one, tokens_of_one, probabilities in zip(going, guessed, drawn_from, strict=True):
            count = self._wanted(one)
            one.drafts = tokens_of_one[:count]
            is_drawn = one.request.sampling.temperature > 0
            one.draft_probabilities = torch.stack(probabilities[:count]) if is_drawn else None
            one.drafted_length = len(one.tokens)

    def _wanted(self, generation: Generation) -> int:
        """Return how many guesses a request can use: a token more than them comes of each step."""
        if not generation.is_free or generation.recent_R_D is None:
            return 0
        return min(self._draft_tokens, generation.request.most_tokens - generation.generated_tokens - 1)

    def _run(self, block: int, going: Sequence[Generation], guessed: Sequence[Sequence[int]]) -> Tensor:
        """Run one block over the newest rows of each request; return the logits of its guesses, [B, V]."""
        groups: dict[int, list[int]] = {}
        for place, generation in enumerate(going):
            groups.setdefault(self._rows(generation, block), []).append(place)
        parts: list[Part] = []
        passes: list[AttentionPass] = []
        tokens: list[int] = []
        hidden: list[Tensor] = []
        ends: list[tuple[int, int]] = []
        for rows, places in groups.items():
            members = [going[place] for place in places]
            seats = [one.seat for one in members if one.seat is not None]
            parts.append(Part(seats, rows))
            passes.append(self._pass(block, rows, members, seats))
            for place, one in zip(places, members, strict=True):
                known = [*one.tokens, *guessed[place]]
                tokens += known[len(one.tokens) - rows + block : len(one.tokens) + block]
                hidden.append(one.recent_R_D[-rows:] if one.recent_R_D is not None else torch.empty(0))
                ends.append((place, len(tokens) - 1))
        backbone = self._model.model
        hidden_1_N_D = torch.cat(hidden)[None]
        next_1_N = torch.tensor([tokens], dtype=torch.int64, device=hidden_1_N_D.device)
        further_1_N_D = backbone.mtp.layers[block](
            backbone.embed_tokens(next_1_N), hidden_1_N_D, FlatPass(parts, passes)
        )
        last = torch.tensor([end for _, end in sorted(ends)], device=hidden_1_N_D.device)
        logits: Tensor = self._model.lm_head(further_1_N_D[0, last])
        return logits.float()

    def _rows(self, generation: Generation, block: int) -> int:
        """Return how many rows to compute: what is new or was a guess; as many for all, where that costs little."""
        known = len(generation.tokens)
        needed = known - generation.drafted_length + block
        kept = 0 if generation.recent_R_D is None else generation.recent_R_D.shape[0]
        return min(max(needed, self._draft_tokens + 1 + block), kept, known - 1)

    def _pass(self, block: int, rows: int, members: Sequence[Generation], seats: Sequence[Seat]) -> AttentionPass:
        starts = [len(one.tokens) - 1 - rows for one in members]
        ring = self._memory.mtp[block]
        if rows > 1 + ring.draft_slots:  # the ring shows its old rows beside new ones: they must not be there twice
            for seat, start in zip(seats, starts, strict=True):
                ring.forget_row_from(seat.row, start)
        device = self._model.lm_head.weight.device
        layout = Layout.following(torch.tensor(starts, device=device), rows)
        return AttentionPass(self._model.config, LayerKind.WINDOW, layout, RingRows(ring, seats, device))
