"""A chat completion: from a body to requests, and from their progress to OpenAI's objects, whole or streamed."""

import secrets
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace

from envfarm.errors import RequestRefusedError
from envfarm.model.chat import Message, Tool
from envfarm.model.chat_reply import Reply, typed_arguments, written_arguments
from envfarm.model.engine.request import Constraint, GeneratedToken, Progress
from envfarm.model.server.answering import Collected, endings, extension_json, make_requests
from envfarm.model.server.bodies import ChatBody, conversation_of, tools_to_call
from envfarm.model.server.call_constraint import CallConstraint, OneCall
from envfarm.model.server.conversations import Past, prompt_parts
from envfarm.model.server.reply_stream import ReplyStream, Told
from envfarm.model.server.responses import Json, calls_json, chat_logprobs_json, finish_reason, message_json
from envfarm.model.server.service import Service


@dataclass
class _Choice:
    """One choice under way."""

    told: ReplyStream
    collected: Collected = field(default_factory=Collected)


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
        known, new = prompt_parts(service.tokenizer, self._messages, self._tools, thinking=self._thinking, past=past)
        service.check_size(piece.text for piece in new)
        self._prompt = [*known, *service.tokenizer.encode_pieces(new)]
        if body.top_logprobs and not body.logprobs:
            message = "top_logprobs: it needs logprobs"
            raise RequestRefusedError(message)
        most = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
        requests = make_requests(service, body, self._prompt, most, body.top_logprobs or 0)
        self._requests = [replace(one, constraint=self._constraint(one.most_tokens)) for one in requests]
        self._id = secrets.token_hex(12)
        self._choices = [_Choice(ReplyStream(thinking=self._thinking)) for _ in requests]

    async def whole(self) -> Json:
        """Return the answer when it is there."""
        async with self._service.engine.generate(*self._requests) as stream:
            async for place, progress in stream:
                self._choices[place].collected.add(progress)
        choices = [self._whole_choice(place) for place in range(len(self._choices))]
        return {**self._head("chat.completion"), "choices": choices, **self._endings()}

    async def parts(self) -> AsyncGenerator[Json, None]:
        """Yield the answer as chunks while it comes; the last one holds usage and extensions if they were asked for."""
        async with self._service.engine.generate(*self._requests) as stream:
            for place in range(len(self._choices)):
                yield self._chunk(place, {"role": "assistant", "content": ""}, [])
            async for place, progress in stream:
                choice = self._choices[place]
                choice.collected.add(progress)
                new = choice.told.push(progress.text)
                if progress.finish is None:
                    yield self._chunk(place, _delta(new), progress.tokens)
                else:
                    yield self._last_chunk(place, progress, new)
        beside = self._endings()
        options = self._body.stream_options
        if options is None or not options.include_usage:
            beside.pop("usage")
        if beside:
            yield {**self._head("chat.completion.chunk"), "choices": [], **beside}

    def _constraint(self, most_tokens: int) -> Constraint | None:
        """Return what one choice has to keep to; each has its own, which knows how far the answer is."""
        only_one = self._body.parallel_tool_calls is False
        callable_tools = tools_to_call(self._body, self._tools)
        if callable_tools:
            several = not only_one and self._body.tool_choice == "required"
            rules = self._service.call_rules(callable_tools, thinking=self._thinking, several=several)
            return CallConstraint(rules, most_tokens)
        if only_one and self._tools:
            return OneCall(self._service.tokenizer, thinking=self._thinking)
        return None

    def _whole_choice(self, place: int) -> Json:
        collected, told = self._choices[place].collected, self._choices[place].told
        last, finish = collected.end()
        told.push(collected.text)
        _, reply = told.finish()
        self._remember(place, reply)
        choice: Json = {
            "index": place,
            "message": message_json(reply, self._tools, self._call_id(place)),
            "finish_reason": finish_reason(finish, called=bool(reply.message.tool_calls)),
            "logprobs": self._logprobs(collected.tokens),
        }
        return {**choice, **self._told_tokens(collected.tokens), **self._own_extension(last)}

    def _last_chunk(self, place: int, last: Progress, new: Told) -> Json:
        choice = self._choices[place]
        _, finish = choice.collected.end()
        rest, reply = choice.told.finish()
        delta = _delta(Told(new.reasoning + rest.reasoning, new.content + rest.content))
        if reply.message.tool_calls:
            calls = calls_json(reply.message.tool_calls, self._tools, self._call_id(place))
            delta["tool_calls"] = [{"index": number, **call} for number, call in enumerate(calls)]
        self._remember(place, reply)
        chunk = self._chunk(place, delta, last.tokens, finish_reason(finish, called=bool(reply.message.tool_calls)))
        chunk["choices"][0] |= self._own_extension(last)
        return chunk

    def _remember(self, place: int, reply: Reply) -> None:
        """Keep the conversation up to the first choice: it is the one whose memory the engine keeps."""
        if place or reply.is_still_thinking:
            return
        tokens = (*self._prompt, *(token.token for token in self._choices[place].collected.tokens))
        messages = (*self._messages, as_returned(reply.message, self._tools))
        self._service.conversations.remember(self._body.prompt_cache_key, Past(messages, tuple(self._tools), tokens))

    def _endings(self) -> Json:
        return endings(self._body, self._prompt, [choice.collected.end()[0] for choice in self._choices])

    def _own_extension(self, last: Progress) -> Json:
        return extension_json(self._body, last) if len(self._choices) > 1 else {}

    def _chunk(self, place: int, delta: Json, tokens: Sequence[GeneratedToken], end: str | None = None) -> Json:
        choice: Json = {"index": place, "delta": delta, "finish_reason": end, "logprobs": self._logprobs(tokens)}
        return {**self._head("chat.completion.chunk"), "choices": [{**choice, **self._told_tokens(tokens)}]}

    def _told_tokens(self, tokens: Sequence[GeneratedToken]) -> Json:
        return {"token_ids": [token.token for token in tokens]} if self._body.return_token_ids else {}

    def _logprobs(self, tokens: Sequence[GeneratedToken]) -> Json | None:
        return chat_logprobs_json(tokens, self._service.tokenizer) if self._body.logprobs else None

    def _call_id(self, place: int) -> str:
        return f"{self._id}-{place}" if place else self._id

    def _head(self, kind: str) -> Json:
        return {
            "id": f"chatcmpl-{self._id}",
            "object": kind,
            "created": self._service.created,
            "model": self._service.name,
        }


def as_returned(message: Message, tools: Sequence[Tool]) -> Message:
    """Return an answer as it comes back from a client that got it: arguments have been JSON in between."""
    declared = {tool.name: tool for tool in tools}
    calls = [
        replace(call, arguments=written_arguments(typed_arguments(call, declared.get(call.name, Tool(name=call.name)))))
        for call in message.tool_calls
    ]
    return replace(message, tool_calls=tuple(calls))


def _delta(told: Told) -> Json:
    delta: Json = {}
    if told.reasoning:
        delta["reasoning_content"] = told.reasoning
    if told.content:
        delta["content"] = told.content
    return delta
