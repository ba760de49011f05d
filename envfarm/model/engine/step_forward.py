"""One forward for everybody in a step: what the engine asks of a model, and how torch does it.

The kernels do the same; see `kernel_forward`. Tokens of all requests lie one after another in one flat row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from envfarm.model.attention_pass import AttentionPass
from envfarm.model.config import LayerKind
from envfarm.model.engine.row_memory import FlatPass, Part, RingRows, RowMemory, Seat
from envfarm.model.layout import Layout
from envfarm.model.mimo import ForwardResult, MiMo


@dataclass(frozen=True)
class StepResult:
    """What the main model computed.

    Attributes:
        hidden_N_D: Hidden states after the final norm, in the order of the flat row.
        chosen_N_L_K: Experts of every token, uint8; layers without experts have zeros. None if nobody asked.
    """

    hidden_N_D: Tensor
    chosen_N_L_K: Tensor | None


@dataclass(frozen=True)
class Logits:
    """What rows say of the next token.

    Attributes:
        logits_R_V: In float32.
        likeliest: Each row's likeliest token, the first among equals.
        highest_logprobs: Its logarithm of probability.
        finite: Whether all numbers of a row are finite; else nothing of it means anything.
    """

    logits_R_V: Tensor
    likeliest: Sequence[int]
    highest_logprobs: Sequence[float]
    finite: Sequence[bool | int]


@dataclass(frozen=True)
class DraftRun:
    """The newest rows of one request, for a block.

    Attributes:
        seat: Its memory.
        start: Position of the first row.
        tokens: For each row t the token t + 1 + k.
        hidden_T_D: For each row the main model's hidden state.
    """

    seat: Seat
    start: int
    tokens: Sequence[int]
    hidden_T_D: Tensor


class StepForward(Protocol):
    """A model in use.

    Attributes:
        evens_rows: Whether requests of a pass that go on by equally many rows cost less.
        can_guess_all: Whether `guess_all` is there.
    """

    evens_rows: bool
    can_guess_all: bool

    def run(self, parts: Sequence[Part], tokens: Sequence[int], *, routing_wanted: bool) -> StepResult:
        """Run tokens through the main model; their keys and values are stored."""

    def logits(self, hidden_N_D: Tensor, rows: Sequence[int]) -> Logits:
        """Return what some rows say of the next token."""

    def guess(self, block: int, runs: Sequence[DraftRun]) -> Logits:
        """Run an MTP block over rows of each request; return what each last row says."""

    def guess_all(self, runs: Sequence[DraftRun], blocks: int) -> list[list[int]]:
        """Return the likeliest guess of each block, one after another, for each request.

        A run says what the first block goes over, and has tokens and hidden states of `blocks` - 1 rows before that.
        """


class TorchForward:
    """A model run by torch, anywhere and in any type of numbers."""

    evens_rows = True
    can_guess_all = False

    def __init__(self, model: MiMo, memory: RowMemory) -> None:
        self._model = model
        self._memory = memory
        self._device = model.lm_head.weight.device

    def run(self, parts: Sequence[Part], tokens: Sequence[int], *, routing_wanted: bool) -> StepResult:
        """Run tokens through the main model; see `StepForward.run`."""
        tokens_1_N = torch.tensor([tokens], dtype=torch.int64, device=self._device)
        result = self._model.model(tokens_1_N, self._memory.passes(parts))
        return StepResult(result.hidden_B_T_D[0], self._chosen(result) if routing_wanted else None)

    def logits(self, hidden_N_D: Tensor, rows: Sequence[int]) -> Logits:
        """Return logits; see `StepForward.logits`."""
        logits_R_V = self._model.lm_head(hidden_N_D[torch.tensor(rows, device=self._device)]).float()
        highest_R, likeliest_R = logits_R_V.max(-1)
        logprobs_R = highest_R - logits_R_V.logsumexp(-1)
        return Logits(logits_R_V, likeliest_R.tolist(), logprobs_R.tolist(), logits_R_V.isfinite().all(-1).tolist())

    def guess(self, block: int, runs: Sequence[DraftRun]) -> Logits:
        """Return guesses' logits; see `StepForward.guess`."""
        groups: dict[int, list[int]] = {}
        for place, run in enumerate(runs):
            groups.setdefault(len(run.tokens), []).append(place)
        order = [place for places in groups.values() for place in places]
        parts = [Part([runs[place].seat for place in places], rows) for rows, places in groups.items()]
        passes = [self._pass(block, rows, [runs[place] for place in places]) for rows, places in groups.items()]
        tokens = [token for place in order for token in runs[place].tokens]
        ends, stop = [0] * len(runs), 0
        for place in order:
            stop += len(runs[place].tokens)
            ends[place] = stop - 1
        backbone = self._model.model
        hidden_1_N_D = torch.cat([runs[place].hidden_T_D for place in order])[None]
        embedding = backbone.embed_tokens(torch.tensor([tokens], dtype=torch.int64, device=self._device))
        further_1_N_D = backbone.mtp.layers[block](embedding, hidden_1_N_D, FlatPass(parts, passes))
        return self.logits(further_1_N_D[0], ends)

    def guess_all(self, runs: Sequence[DraftRun], blocks: int) -> list[list[int]]:
        """There is nothing to gain: block by block is as fast."""
        raise NotImplementedError

    def _pass(self, block: int, rows: int, runs: Sequence[DraftRun]) -> AttentionPass:
        ring = self._memory.mtp[block]
        if rows > 1 + ring.draft_slots:  # the ring shows its old rows beside new ones: they must not be there twice
            for run in runs:
                ring.forget_row_from(run.seat.row, run.start)
        layout = Layout.following(torch.tensor([run.start for run in runs], device=self._device), rows)
        seats = [run.seat for run in runs]
        return AttentionPass(self._model.config, LayerKind.WINDOW, layout, RingRows(ring, seats, self._device))

    def _chosen(self, result: ForwardResult) -> Tensor:
        config = self._model.config
        tokens = result.hidden_B_T_D.shape[1]
        chosen = torch.zeros(tokens, config.num_hidden_layers, config.num_experts_per_tok, dtype=torch.uint8)
        layers = [layer for layer in range(config.num_hidden_layers) if config.has_experts(layer)]
        for layer, routing in zip(layers, result.routings, strict=True):
            chosen[:, layer] = routing.chosen_N_K.to("cpu", torch.uint8)
        return chosen
