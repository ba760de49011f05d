"""Generates for many requests at once, step by step: one forward of the main model for all of them.

One caller at a time drives it, from any thread. Between two steps every request can be cancelled, which frees its
memory at once. A step that raises leaves the engine unusable: only a defect, or no memory, makes it raise.
"""

from collections.abc import Callable, Sequence

import torch

from envfarm.errors import RequestRefusedError
from envfarm.model.engine.answer_tokens import Choice, tell_tokens
from envfarm.model.engine.drafting import Drafter
from envfarm.model.engine.generation import Generation
from envfarm.model.engine.kernel_forward import choose_forward
from envfarm.model.engine.limits import EngineCounts, EngineLimits
from envfarm.model.engine.request import Finish, GeneratedToken, Progress, Request
from envfarm.model.engine.request_check import complaints_about
from envfarm.model.engine.row_memory import RowMemory
from envfarm.model.engine.sampling import draw_tokens
from envfarm.model.engine.seating import Seating
from envfarm.model.engine.step_forward import Logits, StepResult
from envfarm.model.engine.step_plan import Turn, plan_step
from envfarm.model.engine.verification import verify_drafts, verify_likeliest
from envfarm.model.mimo import MiMo


class Engine:
    """A model in use.

    Attributes:
        limits: What it may use.
        counts: What it has done.
        context_tokens: Most tokens of one request, answer included.
        vocab_size: How many tokens the model tells apart.
        memory: Keys and values of everybody.
        runs_by: What computes: the name of the kernels, or `torch`.
    """

    def __init__(self, model: MiMo, limits: EngineLimits, token_bytes: Callable[[int], bytes]) -> None:
        """Take a model in inference mode, with the weights it has now, and what each token stands for in UTF-8."""
        config, weight = model.config, model.lm_head.weight
        self.limits = limits
        self.counts = EngineCounts()
        self.context_tokens = min(limits.context_tokens, config.max_position_embeddings, limits.capacity_tokens)
        self.vocab_size = config.vocab_size
        self._config = config
        self._token_bytes = token_bytes
        draft_tokens = min(limits.draft_tokens, config.num_nextn_predict_layers)
        self.memory = RowMemory(
            config,
            rows=limits.running + limits.kept_conversations,
            capacity_tokens=limits.capacity_tokens,
            draft_slots=2 * draft_tokens,  # a block's last pass goes over so many rows at once
            mtp_blocks=draft_tokens,
            dtype=weight.dtype,
            device=weight.device,
        )
        self._forward, self.runs_by = choose_forward(model, self.memory, kernels=limits.kernels)
        self._drafter = Drafter(config, self._forward, draft_tokens)
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
    def has_work(self) -> bool:
        """Whether a step would do something."""
        return bool(self._by_id)

    def check(self, request: Request) -> None:
        """Raise RequestRefusedError if a request asks for something that this engine cannot do. From any thread."""
        for complaint in complaints_about(request, self._config, self.context_tokens):
            raise RequestRefusedError(complaint)

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

    def cancel(self, request_id: int) -> Progress | None:
        """End a request at once, its memory free; returns its last progress, or None if it is over already."""
        generation = self._by_id.get(request_id)
        if generation is None:
            return None
        return self._end(generation, generation.ended(Finish.CANCELLED), keep=False)

    def forget(self, conversation: str) -> None:
        """Free what is kept for a conversation's next turn."""
        self._seating.drop(conversation)

    @torch.no_grad()
    def step(self) -> list[Progress]:
        """Go on with every request that has a seat; return what came of it."""
        self._seating.admit()
        parts, turns = plan_step(self._seating, self.limits.chunk_tokens)
        if not turns:
            return []
        tokens = [token for turn in turns for token in turn.tokens]
        routing_wanted = any(turn.generation.request.routing_wanted for turn in turns)
        result = self._forward.run(parts, tokens, routing_wanted=routing_wanted)
        self.counts.steps += 1
        ready = []
        for turn in turns:
            if len(turn.tokens) == turn.generation.waiting_tokens + turn.drafts:
                ready.append(turn)
            if not turn.drafts:
                self._settle(turn, len(turn.tokens), result)
        return self._answer(ready, result) if ready else []

    def _settle(self, turn: Turn, count: int, result: StepResult) -> None:
        """Note that the first tokens of a turn are there to stay."""
        generation, seat = turn.generation, turn.generation.seat
        if seat is None:
            return
        stop = turn.start + count
        if result.chosen_N_L_K is not None and generation.request.routing_wanted:
            generation.routing.add(seat.tokens, result.chosen_N_L_K[turn.start : stop])
        if not turn.drafts and (count > 1 or not generation.generated_tokens):
            generation.prefilled_tokens += count
            self.counts.prefilled_tokens += count
        self._drafter.note(generation, result.hidden_N_D[turn.start : stop])
        seat.tokens += count

    def _answer(self, ready: Sequence[Turn], result: StepResult) -> list[Progress]:
        """Draw the next tokens of each request, forget guesses that were wrong, and guess anew."""
        rows = [row for turn in ready for row in range(turn.stop - 1 - turn.drafts, turn.stop)]
        logits = self._forward.logits(result.hidden_N_D, rows)
        choices = self._choose(ready, logits)
        told = iter(_tell(logits, [choice for own in choices for choice in own]))
        news, row = [], 0
        for turn, own in zip(ready, choices, strict=True):
            tokens = [next(told) for _ in own]
            is_finite = all(logits.finite[row : row + 1 + turn.drafts])
            row += 1 + turn.drafts
            if is_finite and tokens:
                news.append(self._extend(turn, tokens, result))
            else:
                news.append(turn.generation.ended(Finish.DEAD_END if is_finite else Finish.NOT_FINITE))
        guessed = [turn.generation.seat for turn in ready if turn.drafts and turn.generation.seat is not None]
        if guessed:
            self.memory.roll_back(guessed)
        going = []
        for turn, progress in zip(ready, news, strict=True):
            if progress.finish is None:
                going.append(turn.generation)
            else:
                self._end(turn.generation, progress, keep=progress.finish in (Finish.STOP, Finish.LENGTH))
        self._drafter.draft(going)
        return news

    def _choose(self, ready: Sequence[Turn], logits: Logits) -> list[list[Choice]]:
        """Return each request's next tokens: one, or none where nothing may follow, or guesses and one more."""
        choices: list[list[Choice]] = [[] for _ in ready]
        row, drawn = 0, []
        for place, turn in enumerate(ready):
            generation = turn.generation
            sampling = generation.request.sampling
            if turn.drafts:
                choices[place] = self._verify(turn, logits, row)
            elif generation.is_free and sampling.takes_likeliest:
                top_logprobs = generation.request.top_logprobs
                choices[place] = [Choice(logits.likeliest[row], row, was_forced=False, top_logprobs=top_logprobs)]
            else:
                drawn.append((place, row, generation.draw(generation.allowed())))
            row += 1 + turn.drafts
        if not drawn:
            return choices
        rows = torch.tensor([row for _, row, _ in drawn], device=logits.logits_R_V.device)
        tokens = draw_tokens(logits.logits_R_V[rows], [draw for _, _, draw in drawn])
        for (place, row, draw), token in zip(drawn, tokens, strict=True):
            if draw.allowed != ():
                choices[place] = [Choice(token, row, draw.is_forced, ready[place].generation.request.top_logprobs)]
        return choices

    @staticmethod
    def _verify(turn: Turn, logits: Logits, row: int) -> list[Choice]:
        generation, stop = turn.generation, row + 1 + turn.drafts
        if generation.request.sampling.takes_likeliest:
            tokens = verify_likeliest(logits.likeliest[row:stop], generation.drafts)
        else:
            tokens = verify_drafts(
                logits.logits_R_V[row:stop], generation.drafts, generation.draft_probabilities, generation.draw()
            )
        top_logprobs = generation.request.top_logprobs
        return [
            Choice(token, row + step, was_forced=False, top_logprobs=top_logprobs) for step, token in enumerate(tokens)
        ]

    def _extend(self, turn: Turn, tokens: Sequence[GeneratedToken], result: StepResult) -> Progress:
        generation = turn.generation
        generation.drafts, generation.draft_probabilities = [], None
        if turn.drafts:
            self._settle(turn, len(tokens), result)
        progress = generation.add(tokens, [self._token_bytes(token.token) for token in tokens])
        count = len(progress.tokens)
        self.counts.generated_tokens += count
        if turn.drafts:
            self.counts.drafted_tokens += turn.drafts
            self.counts.accepted_tokens += min(count, len(tokens) - 1)
            generation.take_back(len(tokens) - count)
        return progress

    def _end(self, generation: Generation, progress: Progress, *, keep: bool) -> Progress:
        del self._by_id[generation.request_id]
        self._seating.end(generation, keep=keep)
        self.counts.finished += 1
        return progress


def _tell(logits: Logits, choices: Sequence[Choice]) -> list[GeneratedToken]:
    """Return the tokens with what the model thought of them; how one is told depends on itself only."""
    known = {
        place: GeneratedToken(token=choice.token, logprob=logits.highest_logprobs[choice.row])
        for place, choice in enumerate(choices)
        if not (choice.top_logprobs or choice.was_forced) and choice.token == logits.likeliest[choice.row]
    }
    if len(known) == len(choices):
        return list(known.values())
    others = iter(tell_tokens(logits.logits_R_V, [one for place, one in enumerate(choices) if place not in known]))
    return [known[place] if place in known else next(others) for place in range(len(choices))]
