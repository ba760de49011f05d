"""What both kinds of answers share: from a client's body to the engine's requests, and what came of each."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from envfarm.errors import RequestRefusedError
from envfarm.model.engine.request import Finish, GeneratedToken, Progress, Request, Sampling
from envfarm.model.server.bodies import SharedFields
from envfarm.model.server.responses import Json, routing_json, usage_json
from envfarm.model.server.service import Service

MOST_CHOICES = 128
_FAILURES = (Finish.NOT_FINITE, Finish.CANCELLED)
_SEED_BITS = 63


class AnswerFailedError(Exception):
    """The model could not answer; the text says why."""


@dataclass
class Collected:
    """All that came of a request."""

    tokens: list[GeneratedToken] = field(default_factory=list)
    text: str = ""
    last: Progress | None = None

    def add(self, progress: Progress) -> None:
        """Take what came."""
        self.tokens += progress.tokens
        self.text += progress.text
        if progress.finish is not None:
            self.last = progress

    def end(self) -> tuple[Progress, Finish]:
        """Return the last progress; raise AnswerFailedError if there is no answer."""
        if self.last is None or self.last.finish is None or self.last.finish in _FAILURES:
            message = "the engine stopped" if self.last is None else f"the model's answer ended: {self.last.finish}"
            raise AnswerFailedError(message)
        return self.last, self.last.finish


def make_requests(
    service: Service, body: SharedFields, prompt: list[int], most_tokens: int | None, top_logprobs: int
) -> list[Request]:
    """Return what the engine is asked for, one request for each choice; the first one goes on with the conversation.

    Raises:
        RequestRefusedError: The engine cannot do it.
    """
    left = service.engine.engine.context_tokens - len(prompt)
    request = Request(
        prompt=tuple(prompt),
        most_tokens=max(left, 1) if most_tokens is None else most_tokens,
        sampling=Sampling(
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            top_k=max(body.top_k or 0, 0),  # -1 means all, as elsewhere
            seed=secrets.randbits(_SEED_BITS) if body.seed is None else body.seed,
            presence_penalty=body.presence_penalty or 0.0,
            frequency_penalty=body.frequency_penalty or 0.0,
            repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
            logit_bias=tuple(sorted((body.logit_bias or {}).items())),
        ),
        stop_tokens=frozenset(body.stop_token_ids or ()).union(() if body.ignore_eos else service.tokenizer.end_tokens),
        stop_texts=body.stop_texts,
        top_logprobs=top_logprobs,
        routing_wanted=body.return_routed_experts,
        conversation=body.prompt_cache_key,
    )
    if body.routed_experts_start_len < 0:
        message = "routed_experts_start_len is negative"
        raise RequestRefusedError(message)
    most, count = min(MOST_CHOICES, service.engine.most_open), 1 if body.n is None else body.n
    if not 1 <= count <= most:
        message = f"n has to be from 1 to {most}"
        raise RequestRefusedError(message)
    service.engine.engine.check(request)
    others = [_other_choice(request, place) for place in range(1, count)]
    return [request, *others]


def endings(body: SharedFields, prompt: Sequence[int], lasts: Sequence[Progress]) -> Json:
    """Return what stands beside an answer's choices: usage of all of them, and extensions that were asked for."""
    usages = [last.usage for last in lasts if last.usage is not None]
    found: Json = {"usage": usage_json(usages)}
    if len(lasts) == 1:
        found |= extension_json(body, lasts[0])
    if body.return_token_ids:
        found["prompt_token_ids"] = list(prompt)
    return found


def extension_json(body: SharedFields, last: Progress) -> Json:
    """Return an answer's routed experts, if they were asked for."""
    if last.routing is None:
        return {}
    return {"sglext": routing_json(last.routing, body.routed_experts_start_len)}


def _other_choice(request: Request, place: int) -> Request:
    """Return the request of another choice: a seed of its own, and no later turn."""
    digest = hashlib.blake2b(f"{request.sampling.seed}/choice/{place}".encode(), digest_size=8).digest()
    seed = int.from_bytes(digest, "little") >> (64 - _SEED_BITS)
    return replace(request, sampling=replace(request.sampling, seed=seed), conversation=None)
