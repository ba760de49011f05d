"""Generates for many requests at once, step by step: one forward of the main model for all of them.

One caller at a time drives it, from any thread. Between two steps every request can be cancelled, which frees its
memory at once. A step that raises leaves the engine unusable: only a defect, or no memory, makes it raise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from envfarm.errors import RequestRefusedError
from envfarm.model.engine.generation import Generation
from envfarm.model.engine.limits import EngineCounts, EngineLimits
from envfarm.model.engine.request import MOST_TOP_LOGPROBS, Finish, GeneratedToken, Progress, Request
from envfarm.model.engine.row_memory import Part, RowMemory
from envfarm.model.engine.sampling import Draw, draw_tokens
from envfarm.model.engine.seating import Seating
from envfarm.model.mimo import ForwardResult, MiMo

_MOST_EXPERTS = 256
"""An expert's number has to fit into a byte."""


@dataclass(frozen=True)
class _Turn:
    """What one request does in one step: `tokens` go through the model, from `start` of the flat row on."""

    generation: Generation
    tokens: list[int]
    start: int

    @property
    def stop(self) -> int:
        return self.start + len(self.tokens)


class Engine:
    """A model in use.

    Attributes:
        limits: What it may use.
        counts: What it has done.
        memory: Keys and values of everybody.
    """

    def __init__(self, model: MiMo, limits: EngineLimits, token_bytes: Callable[[int], bytes]) -> None:
        """Take a model in inference mode, and what each token stands for in UTF-8."""
        self.limits = limits
        self.counts = EngineCounts()
        self._model = model
        self._token_bytes = token_bytes
        self._context_tokens = min(limits.context_tokens, model.config.max_position_embeddings, limits.capacity_tokens)
        weight = model.lm_head.weight
        self._device = weight.device
        self.memory = RowMemory(
            model.config,
            rows=limits.running + limits.kept_conversations,
            capacity_tokens=limits.capacity_tokens,
            dtype=weight.dtype,
            device=weight.device,
        )
        self._seating = Seating(self.memory, limits, self.counts)
        self._by_id: dict[int, Generation] = {}
        self._next_id = 0

    @property
    def running_requests(self) -> int:
        """How many requests generate."""
        return len(self._seating.running)

    @property
    def waiting_requests(self) -> int:
        """How many requests wait for a seat."""
        return len(self._seating.waiting)

    @property
    def kept_conversations(self) -> int:
        """How many conversations are kept for a later turn."""
        return len(self._seating.kept)

    @property
    def context_tokens(self) -> int:
        """Most tokens of one request, answer included."""
        return self._context_tokens

    def submit(self, request: Request) -> int:
        """Take a request; it begins with a later step. Returns its number.

        Raises:
            RequestRefusedError: It asks for something that this engine cannot do; nothing is left of it.
        """
        self.check(request)
        self._next_id += 1
        generation = self._by_id[self._next_id] = Generation(self._next_id, request)
        self._seating.waiting.append(generation)
        return self._next_id

    def check(self, request: Request) -> None:
        """Raise RequestRefusedError if a request asks for something that this engine cannot do. From any thread."""
        for complaint in self._complaints(request):
            raise RequestRefusedError(complaint)

    def cancel(self, request_id: int) -> Progress | None:
        """End a request at once, its memory free; returns its last progress, or None if it is over already."""
        generation = self._by_id.get(request_id)
        if generation is None:
            return None
        return self._end(generation, generation.ended(Finish.CANCELLED), keep=False)

    def forget(self, conversation: str) -> None:
        """Free what is kept for a conversation's next turn."""
        self._seating.drop(conversation)

    @property
    def has_work(self) -> bool:
        """Whether a step would do something."""
        return bool(self._by_id)

    @torch.no_grad()
    def step(self) -> list[Progress]:
        """Go on with every request that has a seat; return what came of it."""
        self._seating.admit()
        parts, turns = self._plan()
        if not turns:
            return []
        tokens = [token for turn in turns for token in turn.tokens]
        tokens_1_N = torch.tensor([tokens], dtype=torch.int64, device=self._device)
        result = self._model.model(tokens_1_N, self.memory.passes(parts))
        self.counts.steps += 1
        ready = self._advance(turns, result)
        return self._draw(ready, result) if ready else []

    def _plan(self) -> tuple[list[Part], list[_Turn]]:
        """Choose what goes through the model: a token of everybody who generates, and a chunk of prompts."""
        budget = self.limits.chunk_tokens
        groups: dict[tuple[int, int], list[Generation]] = {}
        for generation in list(self._seating.running):
            count = min(generation.waiting_tokens, budget if generation.waiting_tokens > 1 else 1)
            seat = generation.seat
            if not count or seat is None or not self._seating.make_room(generation, seat.tokens + count):
                continue
            if count == 1 and seat.tokens:
                key = (
                    0,
                    len(seat.blocks).bit_length(),
                )  # rows of like length: short ones are not filled up to a long one
            else:
                key = count, -generation.request_id
                budget -= count
            groups.setdefault(key, []).append(generation)
        parts, turns, start = [], [], 0
        for (count, _), members in groups.items():
            seated = [(one, one.seat) for one in members if one.seat is not None]  # a younger one may have lost its
            if not seated:
                continue
            parts.append(Part([seat for _, seat in seated], count or 1))
            for generation, seat in seated:
                tokens = generation.tokens[seat.tokens : seat.tokens + (count or 1)]
                turns.append(_Turn(generation, tokens, start))
                start += len(tokens)
        return parts, turns

    def _advance(self, turns: Sequence[_Turn], result: ForwardResult) -> list[_Turn]:
        """Note what went through the model; return the turns whose next token can be drawn."""
        chosen_N_L_K = self._chosen(result) if any(turn.generation.request.routing_wanted for turn in turns) else None
        ready = []
        for turn in turns:
            generation, seat = turn.generation, turn.generation.seat
            if seat is None:
                continue
            if chosen_N_L_K is not None and generation.request.routing_wanted:
                generation.routing.add(seat.tokens, chosen_N_L_K[turn.start : turn.stop])
            if not generation.generated_tokens or len(turn.tokens) > 1:
                generation.prefilled_tokens += len(turn.tokens)
                self.counts.prefilled_tokens += len(turn.tokens)
            seat.tokens += len(turn.tokens)
            if not generation.waiting_tokens:
                ready.append(turn)
        return ready

    def _draw(self, ready: Sequence[_Turn], result: ForwardResult) -> list[Progress]:
        """Draw the next token of each request."""
        last = torch.tensor([turn.stop - 1 for turn in ready], device=self._device)
        logits_B_V = self._model.lm_head(result.hidden_B_T_D[0, last]).float()
        finite: list[bool] = logits_B_V.isfinite().all(-1).tolist()
        draws = [self._wish(turn.generation) for turn in ready]
        tokens = draw_tokens(logits_B_V, draws)
        told = self._told(logits_B_V, tokens, draws, [turn.generation for turn in ready])
        progress = []
        for place, turn in enumerate(ready):
            generation = turn.generation
            if not finite[place]:
                progress.append(self._end(generation, generation.ended(Finish.NOT_FINITE), keep=False))
            elif draws[place].allowed == ():
                progress.append(self._end(generation, generation.ended(Finish.DEAD_END), keep=False))
            else:
                progress.append(self._take(generation, told[place]))
        return progress

    def _take(self, generation: Generation, token: GeneratedToken) -> Progress:
        self.counts.generated_tokens += 1
        progress = generation.add([token], [self._token_bytes(token.token)])
        return progress if progress.finish is None else self._end(generation, progress, keep=True)

    def _end(self, generation: Generation, progress: Progress, *, keep: bool) -> Progress:
        del self._by_id[generation.request_id]
        self._seating.end(generation, keep=keep)
        self.counts.finished += 1
        return progress

    @staticmethod
    def _wish(generation: Generation) -> Draw:
        return Draw(generation.request.sampling, generation.generated_tokens, generation.allowed())

    @staticmethod
    def _told(
        logits_B_V: Tensor, tokens: Sequence[int], draws: Sequence[Draw], generations: Sequence[Generation]
    ) -> list[GeneratedToken]:
        logprobs_B_V = logits_B_V.log_softmax(-1)
        own = logprobs_B_V.gather(1, torch.tensor(tokens, device=logits_B_V.device)[:, None])[:, 0].tolist()
        most = max(generation.request.top_logprobs for generation in generations)
        best: list[list[tuple[int, float]]] = [[] for _ in tokens]
        if most:
            values, places = logprobs_B_V.topk(min(most, logprobs_B_V.shape[-1]), dim=-1)
            best = [list(zip(*pair, strict=True)) for pair in zip(places.tolist(), values.tolist(), strict=True)]
        return [
            GeneratedToken(
                token=token,
                logprob=logprob,
                was_forced=draw.allowed is not None and len(draw.allowed) == 1,
                top=tuple(top[: generation.request.top_logprobs]),
            )
            for token, logprob, draw, top, generation in zip(tokens, own, draws, best, generations, strict=True)
        ]

    def _chosen(self, result: ForwardResult) -> Tensor:
        """Return the experts of every token, uint8 [N, layers, k]; layers without experts have zeros."""
        config = self._model.config
        tokens = result.hidden_B_T_D.shape[1]
        chosen = torch.zeros(tokens, config.num_hidden_layers, config.num_experts_per_tok, dtype=torch.uint8)
        layers = [layer for layer in range(config.num_hidden_layers) if config.has_experts(layer)]
        for layer, routing in zip(layers, result.routings, strict=True):
            chosen[:, layer] = routing.chosen_N_K.to("cpu", torch.uint8)
        return chosen

    def _complaints(self, request: Request) -> list[str]:
        vocabulary = self._model.config.vocab_size
        found = []
        if not request.prompt:
            found.append("the prompt is empty")
        if request.most_tokens < 1:
            found.append("an answer has to have at least one token")
        whole = len(request.prompt) + request.most_tokens
        if whole > self._context_tokens:
            found.append(
                f"the prompt has {len(request.prompt):,} tokens and the answer may have {request.most_tokens:,}: "
                f"that is more than {self._context_tokens:,}, the longest that fits"
            )
        given = (*request.prompt, *request.forced)
        if given and not 0 <= min(given) <= max(given) < vocabulary:
            found.append(f"a token is not one of the {vocabulary:,} of the vocabulary")
        if not 0 <= request.top_logprobs <= MOST_TOP_LOGPROBS:
            found.append(f"top_logprobs has to be from 0 to {MOST_TOP_LOGPROBS}")
        sampling = request.sampling
        if not 0 <= sampling.temperature <= 100 or not 0 < sampling.top_p <= 1 or sampling.top_k < 0:  # noqa: PLR2004 -- higher is uniform anyway
            found.append("temperature has to be from 0 to 100, top_p above 0 and at most 1, top_k at least 0")
        if request.routing_wanted and not 0 < self._model.config.n_routed_experts <= _MOST_EXPERTS:
            found.append(f"routed experts are told of models with 1 to {_MOST_EXPERTS} experts")
        return found
