"""What clients get: OpenAI's objects, with `reasoning_content`, and SGLang's `sglext`. PURE."""

import base64
import json
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from envfarm.model.chat import Tool, ToolCall
from envfarm.model.chat_reply import Reply, typed_arguments
from envfarm.model.engine.request import Finish, GeneratedToken, Routing, Usage
from envfarm.model.tokenizer import Tokenizer

Json = dict[str, Any]


def usage_json(usages: Sequence[Usage]) -> Json:
    """Return what an answer's choices cost; they share one prompt, and only the first goes on from an earlier turn."""
    prompt, answers = usages[0].prompt_tokens, sum(usage.generated_tokens for usage in usages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answers,
        "total_tokens": prompt + answers,
        "prompt_tokens_details": {"cached_tokens": usages[0].reused_tokens},
    }


def finish_reason(finish: Finish, *, called: bool = False) -> str:
    """Return why an answer ended, in OpenAI's words."""
    if finish is Finish.LENGTH:
        return "length"
    return "tool_calls" if called else "stop"


def message_json(reply: Reply, tools: Sequence[Tool], answer_id: str) -> Json:
    """Return the assistant's message."""
    message = reply.message
    found: Json = {
        "role": "assistant",
        "content": message.content or None,
        "reasoning_content": message.reasoning or None,
    }
    if message.tool_calls:
        found["tool_calls"] = calls_json(message.tool_calls, tools, answer_id)
    return found


def calls_json(calls: Sequence[ToolCall], tools: Sequence[Tool], answer_id: str) -> list[Json]:
    """Return an answer's calls; arguments are as the tool's schema wants them, text where the tool is unknown."""
    declared = {tool.name: tool for tool in tools}
    return [
        {
            "id": f"call-{answer_id}-{place}",
            "type": "function",
            "function": {
                "name": call.name,
                "arguments": _compact(typed_arguments(call, declared.get(call.name, Tool(name=call.name)))),
            },
        }
        for place, call in enumerate(calls)
    ]


def chat_logprobs_json(tokens: Sequence[GeneratedToken], tokenizer: Tokenizer) -> Json:
    """Return logprobs as chat completions tell them."""

    def one(token: int, logprob: float) -> Json:
        content = tokenizer.token_bytes(token)
        return {"token": content.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(content)}

    return {
        "content": [
            {**one(token.token, token.logprob), "top_logprobs": [one(*pair) for pair in token.top]} for token in tokens
        ]
    }


def completion_logprobs_json(tokens: Sequence[GeneratedToken], tokenizer: Tokenizer, told_characters: int) -> Json:
    """Return logprobs as completions tell them; `told_characters` came before, in earlier chunks."""

    def text(token: int) -> str:
        return tokenizer.token_bytes(token).decode("utf-8", "replace")

    texts = [text(token.token) for token in tokens]
    return {
        "tokens": texts,
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{text(other): logprob for other, logprob in token.top} for token in tokens],
        "text_offset": list(accumulate(map(len, texts[:-1]), initial=told_characters)) if texts else [],
    }


def routing_json(routing: Routing, start: int) -> Json:
    """Return the experts of tokens from `start` on: bytes in base64, and the sizes [tokens, layers, k] beside them."""
    tokens, layers, chosen = routing.shape
    kept = routing.experts[start * layers * chosen :]
    return {
        "routed_experts": base64.b64encode(kept).decode("ascii"),
        "routed_experts_shape": [max(tokens - start, 0), layers, chosen],
        "routed_experts_dtype": "uint8",
    }


def error_json(message: str, kind: str, code: str | None = None) -> Json:
    """Return an error as OpenAI's clients read it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _compact(arguments: Json) -> str:
    return json.dumps(arguments, ensure_ascii=False)
