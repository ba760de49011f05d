"""A plain completion: from a body to requests, and from their progress to OpenAI's objects, whole or streamed."""

import secrets
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from envfarm.model.engine.request import GeneratedToken
from envfarm.model.server.answering import Collected, endings, extension_json, make_requests
from envfarm.model.server.bodies import CompletionBody
from envfarm.model.server.responses import Json, completion_logprobs_json, finish_reason
from envfarm.model.server.service import Service


@dataclass
class _Choice:
    """One choice under way."""

    collected: Collected = field(default_factory=Collected)
    told_characters: int = 0


class CompletionAnswer:
    """One plain completion under way."""

    def __init__(self, service: Service, body: CompletionBody) -> None:
        """Take a body.

        Raises:
            RequestRefusedError: It asks for something that cannot be done.
        """
        self._service, self._body = service, body
        service.check_size([body.prompt] if isinstance(body.prompt, str) else [])
        self._prompt = service.tokenizer.encode(body.prompt) if isinstance(body.prompt, str) else body.prompt
        self._requests = make_requests(service, body, self._prompt, body.max_tokens, body.logprobs or 0)
        self._id = secrets.token_hex(12)
        self._choices = [_Choice() for _ in self._requests]

    async def whole(self) -> Json:
        """Return the answer when it is there."""
        async with self._service.engine.generate(*self._requests) as stream:
            async for place, progress in stream:
                self._choices[place].collected.add(progress)
        found = []
        for place, choice in enumerate(self._choices):
            _, finish = choice.collected.end()
            text, tokens = choice.collected.text, choice.collected.tokens
            found.append({**self._choice(place, text, tokens, finish_reason(finish)), **self._own_extension(place)})
        return {**self._head(), "choices": found, **self._endings()}

    async def parts(self) -> AsyncGenerator[Json, None]:
        """Yield the answer as chunks while it comes; the first one is empty, and says that it is not refused."""
        async with self._service.engine.generate(*self._requests) as stream:
            yield {**self._head(), "choices": [self._choice(0, "", [], None)]}
            async for place, progress in stream:
                collected = self._choices[place].collected
                collected.add(progress)
                end = None if progress.finish is None else finish_reason(collected.end()[1])
                choice = self._choice(place, progress.text, progress.tokens, end)
                yield {**self._head(), "choices": [choice if end is None else {**choice, **self._own_extension(place)}]}
        rest = self._endings()
        if self._body.stream_options is None or not self._body.stream_options.include_usage:
            rest.pop("usage")
        if rest:
            yield {**self._head(), "choices": [], **rest}

    def _choice(self, place: int, text: str, tokens: Sequence[GeneratedToken], end: str | None) -> Json:
        choice, logprobs = self._choices[place], None
        if self._body.logprobs is not None:
            logprobs = completion_logprobs_json(tokens, self._service.tokenizer, choice.told_characters)
            choice.told_characters += sum(map(len, logprobs["tokens"]))
        found: Json = {"index": place, "text": text, "finish_reason": end, "logprobs": logprobs}
        if self._body.return_token_ids:
            found["token_ids"] = [token.token for token in tokens]
        return found

    def _endings(self) -> Json:
        return endings(self._body, self._prompt, [choice.collected.end()[0] for choice in self._choices])

    def _own_extension(self, place: int) -> Json:
        last = self._choices[place].collected.last
        return {} if last is None or len(self._choices) == 1 else extension_json(self._body, last)

    def _head(self) -> Json:
        return {
            "id": f"cmpl-{self._id}",
            "object": "text_completion",
            "created": self._service.created,
            "model": self._service.name,
        }
