"""From a client's body to an engine's request, and from its progress to OpenAI's objects, whole or streamed."""

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace

from envfarm.errors import RequestRefusedError
from envfarm.model.chat import Message, Tool
from envfarm.model.chat_reply import Reply, typed_arguments, written_arguments
from envfarm.model.engine.engine_thread import RunningEngine
from envfarm.model.engine.request import Finish, GeneratedToken, Progress, Request, Sampling
from envfarm.model.server.bodies import ChatBody, CompletionBody, SharedFields, conversation_of
from envfarm.model.server.conversations import Conversations, Past, prompt_tokens
from envfarm.model.server.reply_stream import ReplyStream, Told
from envfarm.model.server.responses import (
    Json,
    calls_json,
    chat_logprobs_json,
    completion_logprobs_json,
    finish_reason,
    message_json,
    routing_json,
    usage_json,
)
from envfarm.model.tokenizer import Tokenizer

_FAILURES = (Finish.NOT_FINITE, Finish.CANCELLED)
_SEED_BITS = 63


class AnswerFailedError(Exception):
    """The model could not answer; the text says why."""


@dataclass
class Service:
    """What answers clients.

    Attributes:
        name: What the model is called.
        engine: The engine that runs.
        tokenizer: The model's vocabulary.
        conversations: Past turns.
        created: When the model was loaded, in seconds since 1970.
    """

    name: str
    engine: RunningEngine
    tokenizer: Tokenizer
    conversations: Conversations
    created: int = field(default_factory=lambda: int(time.time()))


@dataclass
class _Answer:
    """All that came of a request."""

    tokens: list[GeneratedToken] = field(default_factory=list)
    text: str = ""
    last: Progress | None = None

    def add(self, progress: Progress) -> None:
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


class ChatAnswer:
    """One chat completion under way."""

    def __init__(self, service: Service, body: ChatBody) -> None:
        """Take a body.

        Raises:
            RequestRefusedError: It asks for something that cannot be done.
        """
        self._service, self._body = service, body
        self._messages, self._tools = conversation_of(body)
        self._thinking = body.chat_template_kwargs is None or body.chat_template_kwargs.enable_thinking
        past = service.conversations.find(body.prompt_cache_key)
        prompt = prompt_tokens(service.tokenizer, self._messages, self._tools, thinking=self._thinking, past=past)
        if body.top_logprobs and not body.logprobs:
            message = "top_logprobs: it needs logprobs"
            raise RequestRefusedError(message)
        most = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
        self.request = make_request(service, body, prompt, most, body.top_logprobs or 0)
        self._id = secrets.token_hex(12)
        self._whole = _Answer()

    async def whole(self) -> Json:
        """Return the answer when it is there."""
        async with self._service.engine.generate(self.request) as stream:
            async for progress in stream:
                self._whole.add(progress)
        last, finish = self._whole.end()
        told = ReplyStream(thinking=self._thinking)
        told.push(self._whole.text)
        _, reply = told.finish()
        self._remember(reply)
        choice: Json = {
            "index": 0,
            "message": message_json(reply, self._tools, self._id),
            "finish_reason": finish_reason(finish, called=bool(reply.message.tool_calls)),
            "logprobs": self._logprobs(self._whole.tokens),
        }
        if self._body.return_token_ids:
            choice["token_ids"] = [token.token for token in self._whole.tokens]
        return {**self._head("chat.completion"), "choices": [choice], **endings(self._body, self.request, last)}

    async def parts(self) -> AsyncGenerator[Json, None]:
        """Yield the answer as chunks while it comes; the last one holds usage and extensions if they were asked for."""
        told, new = ReplyStream(thinking=self._thinking), Told()
        async with self._service.engine.generate(self.request) as stream:
            yield self._chunk({"role": "assistant", "content": ""}, [])
            async for progress in stream:
                self._whole.add(progress)
                new = told.push(progress.text)
                if progress.finish is None:
                    yield self._chunk(_delta(new), progress.tokens)
        last, finish = self._whole.end()
        rest, reply = told.finish()
        delta = _delta(Told(new.reasoning + rest.reasoning, new.content + rest.content))
        if reply.message.tool_calls:
            calls = calls_json(reply.message.tool_calls, self._tools, self._id)
            delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(calls)]
        self._remember(reply)
        yield self._chunk(delta, last.tokens, finish_reason(finish, called=bool(reply.message.tool_calls)))
        options = self._body.stream_options
        beside = endings(self._body, self.request, last)
        if options is None or not options.include_usage:
            beside.pop("usage")
        if beside:
            yield {**self._head("chat.completion.chunk"), "choices": [], **beside}

    def _remember(self, reply: Reply) -> None:
        tokens = (*self.request.prompt, *(token.token for token in self._whole.tokens))
        messages: tuple[Message, ...] = (*self._messages, as_returned(reply.message, self._tools))
        tools: tuple[Tool, ...] = tuple(self._tools)
        if not reply.is_still_thinking:
            self._service.conversations.remember(self._body.prompt_cache_key, Past(messages, tools, tokens))

    def _chunk(
        self, delta: Json, tokens: list[GeneratedToken] | tuple[GeneratedToken, ...], end: str | None = None
    ) -> Json:
        choice: Json = {"index": 0, "delta": delta, "finish_reason": end, "logprobs": self._logprobs(tokens)}
        if self._body.return_token_ids:
            choice["token_ids"] = [token.token for token in tokens]
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _logprobs(self, tokens: list[GeneratedToken] | tuple[GeneratedToken, ...]) -> Json | None:
        return chat_logprobs_json(tokens, self._service.tokenizer) if self._body.logprobs else None

    def _head(self, kind: str) -> Json:
        return {
            "id": f"chatcmpl-{self._id}",
            "object": kind,
            "created": self._service.created,
            "model": self._service.name,
        }


class CompletionAnswer:
    """One plain completion under way."""

    def __init__(self, service: Service, body: CompletionBody) -> None:
        """Take a body.

        Raises:
            RequestRefusedError: It asks for something that cannot be done.
        """
        self._service, self._body = service, body
        prompt = service.tokenizer.encode(body.prompt) if isinstance(body.prompt, str) else body.prompt
        self.request = make_request(service, body, prompt, body.max_tokens, body.logprobs or 0)
        self._id = secrets.token_hex(12)
        self._whole = _Answer()
        self._told_characters = 0

    async def whole(self) -> Json:
        """Return the answer when it is there."""
        async with self._service.engine.generate(self.request) as stream:
            async for progress in stream:
                self._whole.add(progress)
        last, finish = self._whole.end()
        found = self._part(self._whole.text, self._whole.tokens, finish_reason(finish))
        return {**found, **endings(self._body, self.request, last)}

    async def parts(self) -> AsyncGenerator[Json, None]:
        """Yield the answer as chunks while it comes; the first one is empty, and says that it is not refused."""
        async with self._service.engine.generate(self.request) as stream:
            yield self._part("", [], None)
            async for progress in stream:
                self._whole.add(progress)
                if progress.finish is None:
                    yield self._part(progress.text, list(progress.tokens), None)
        last, finish = self._whole.end()
        yield self._part(last.text, list(last.tokens), finish_reason(finish))
        rest = endings(self._body, self.request, last)
        if self._body.stream_options is None or not self._body.stream_options.include_usage:
            rest.pop("usage")
        if rest:
            yield {**self._part("", [], None), "choices": [], **rest}

    def _part(self, text: str, tokens: list[GeneratedToken], end: str | None) -> Json:
        logprobs = None
        if self._body.logprobs is not None:
            logprobs = completion_logprobs_json(tokens, self._service.tokenizer, self._told_characters)
            self._told_characters += sum(map(len, logprobs["tokens"]))
        choice: Json = {"index": 0, "text": text, "finish_reason": end, "logprobs": logprobs}
        if self._body.return_token_ids:
            choice["token_ids"] = [token.token for token in tokens]
        return {
            "id": f"cmpl-{self._id}",
            "object": "text_completion",
            "created": self._service.created,
            "model": self._service.name,
            "choices": [choice],
        }


def make_request(
    service: Service, body: SharedFields, prompt: list[int], most_tokens: int | None, top_logprobs: int
) -> Request:
    """Return what the engine is asked for.

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
    service.engine.engine.check(request)
    return request


def as_returned(message: Message, tools: Sequence[Tool]) -> Message:
    """Return an answer as it comes back from a client that got it: arguments have been JSON in between."""
    declared = {tool.name: tool for tool in tools}
    calls = [
        replace(call, arguments=written_arguments(typed_arguments(call, declared.get(call.name, Tool(name=call.name)))))
        for call in message.tool_calls
    ]
    return replace(message, tool_calls=tuple(calls))


def endings(body: SharedFields, request: Request, last: Progress) -> Json:
    """Return what stands beside an answer's choices: usage, and extensions that were asked for."""
    found: Json = {}
    if last.usage is not None:
        found["usage"] = usage_json(last.usage)
    if last.routing is not None:
        found["sglext"] = routing_json(last.routing, body.routed_experts_start_len)
    if body.return_token_ids:
        found["prompt_token_ids"] = list(request.prompt)
    return found


def _delta(told: Told) -> Json:
    delta: Json = {}
    if told.reasoning:
        delta["reasoning_content"] = told.reasoning
    if told.content:
        delta["content"] = told.content
    return delta
