"""The state of one request inside the engine: its tokens, its seat, its text, and the experts it went to."""

from collections.abc import Sequence

import torch
from torch import Tensor

from envfarm.model.engine.answer_text import AnswerText
from envfarm.model.engine.request import AllBut, Finish, GeneratedToken, Progress, Request, Routing, Usage
from envfarm.model.engine.row_memory import Seat
from envfarm.model.engine.sampling import Draw


class Generation:
    """One request under way.

    Attributes:
        tokens: Prompt and answer. Those from `seat.tokens` on have not been through the model yet.
        seat: Its memory; None while it waits.
        drafts: Tokens that are guessed to follow, from MTP blocks.
        draft_probabilities: What they were drawn from, [drafts, V]; None where they are the likeliest.
        recent_R_D: Hidden states of the newest tokens that went through the model, for MTP blocks.
        drafted_length: How many tokens were known when MTP blocks last ran; what their rings hold is right up to there.
    """

    def __init__(self, request_id: int, request: Request) -> None:
        self.request_id = request_id
        self.request = request
        self.tokens = list(request.prompt)
        self._prompt_tokens = len(request.prompt)
        self._is_plain = not request.forced and request.constraint is None
        self.seat: Seat | None = None
        self.drafts: list[int] = []
        self.draft_probabilities: Tensor | None = None
        self.recent_R_D: Tensor | None = None
        self.drafted_length = 0
        self.reused_tokens = 0
        self.prefilled_tokens = 0
        self.routing = RoutingRecord()
        self._text = AnswerText(request.stop_texts)

    @property
    def generated_tokens(self) -> int:
        """How many tokens the answer has."""
        return len(self.tokens) - self._prompt_tokens

    @property
    def waiting_tokens(self) -> int:
        """How many tokens have not been through the model."""
        return len(self.tokens) - (self.seat.tokens if self.seat else 0)

    @property
    def forced_token(self) -> int | None:
        """The next token, if it is given."""
        forced, place = self.request.forced, self.generated_tokens
        return forced[place] if place < len(forced) else None

    @property
    def is_free(self) -> bool:
        """Whether nothing but the model decides about the next tokens."""
        return self._is_plain or (self.forced_token is None and self.request.constraint is None)

    def draw(self, allowed: tuple[int, ...] | AllBut | None = None) -> Draw:
        """Return how the next token is drawn."""
        return Draw(self.request.sampling, self.generated_tokens, allowed, self.tokens)

    def allowed(self) -> tuple[int, ...] | AllBut | None:
        """Return the only tokens that may follow; None for all."""
        forced = self.forced_token
        if forced is not None:
            return (forced,)
        if self.request.constraint is None:
            return None
        allowed = self.request.constraint(self.tokens[len(self.request.prompt) :])
        return allowed if allowed is None or isinstance(allowed, AllBut) else tuple(sorted(set(allowed)))

    def add(self, new: Sequence[GeneratedToken], text_of_token: Sequence[bytes]) -> Progress:
        """Take tokens until the answer ends; return what they bring. What follows its end is dropped."""
        request, taken, text = self.request, [], ""
        finish = None
        for token, content in zip(new, text_of_token, strict=True):
            self.tokens.append(token.token)
            taken.append(token)
            if token.token in request.stop_tokens:
                finish = Finish.STOP
            else:
                text += self._text.push(content)
                finish = Finish.STOP if self._text.stopped else None
            if finish is None and self.generated_tokens >= request.most_tokens:
                finish = Finish.LENGTH
            if finish is not None:
                break
        progress = Progress(request_id=self.request_id, tokens=tuple(taken), text=text)
        return progress if finish is None else self.ended(finish, progress)

    def take_back(self, count: int) -> None:
        """Forget that the newest tokens went through the model: the answer ended before them."""
        if not count or self.seat is None:
            return
        self.seat.tokens -= count
        self.routing = self.routing.first(self.seat.tokens)
        if self.recent_R_D is not None:
            self.recent_R_D = self.recent_R_D[:-count]

    def ended(self, finish: Finish, progress: Progress | None = None) -> Progress:
        """Return the last progress."""
        told = progress or Progress(request_id=self.request_id)
        text = told.text + self._text.finish()
        if self._text.stopped and finish is Finish.LENGTH:
            finish = Finish.STOP
        return Progress(
            request_id=self.request_id,
            tokens=told.tokens,
            text=text,
            finish=finish,
            usage=Usage(
                prompt_tokens=len(self.request.prompt),
                reused_tokens=self.reused_tokens,
                prefilled_tokens=self.prefilled_tokens,
                generated_tokens=self.generated_tokens,
            ),
            routing=self.routing.told(len(self.tokens) - 1) if self.request.routing_wanted else None,
        )


class RoutingRecord:
    """The experts of a request's tokens, from its first one on."""

    def __init__(self, parts: Sequence[Tensor] = ()) -> None:
        self._parts = list(parts)
        self.tokens = sum(part.shape[0] for part in self._parts)

    def add(self, start: int, chosen_T_L_K: Tensor) -> None:
        """Take the experts of tokens from position `start` on; what is known already stays as it was at first."""
        known = self.tokens - start
        if known < chosen_T_L_K.shape[0]:
            self._parts.append(chosen_T_L_K[known:].clone())
            self.tokens = start + chosen_T_L_K.shape[0]

    def first(self, tokens: int) -> "RoutingRecord":
        """Return a record of the first tokens."""
        return RoutingRecord([torch.cat(self._parts)[:tokens]] if self._parts else ())

    def told(self, tokens: int) -> Routing:
        """Return what a response carries: the first tokens, or as many as went through the model."""
        if not self._parts:
            return Routing(experts=b"", shape=(0, 0, 0))
        whole = torch.cat(self._parts)[:tokens]
        rows, layers, chosen = whole.shape
        return Routing(experts=whole.contiguous().numpy().tobytes(), shape=(rows, layers, chosen))
