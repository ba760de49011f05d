"""Several choices, penalties and forced calls, as OpenAI's own client asks for them."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import openai
import pytest

from envfarm.model.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tests.data.served_model import Served

HELLO: list[Any] = [{"role": "user", "content": "Hello, who are you?"}]


@pytest.fixture(scope="module")
def served(serving: ModuleType, checkpoint: Path) -> "Iterator[Served]":
    served = serving.start(checkpoint, "--running", "4", "--queue", "4", "--context", "2048")
    yield served
    served.wait_for("open_requests", 0)
    assert serving.end(served) == (0, "")


def declared(name: str, *keys: str, required: tuple[str, ...] = ()) -> Any:
    parameters = {"type": "object", "properties": {key: {"type": "string"} for key in keys}, "required": list(required)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [declared("ls"), declared("edit", "path", "old", "new", required=("path", "new")), declared("bash", "command")]


def ask(served: "Served", **options: Any) -> Any:
    return served.client.chat.completions.create(
        **{"model": "tiny", "messages": HELLO, "tools": TOOLS, "max_tokens": 150, **options}
    )


def check_calls(calls: Any) -> list[str]:
    """Return the names of calls, each of which has to fit its tool."""
    tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
    for call in calls:
        given = json.loads(call.function.arguments)
        schema = tools[call.function.name]
        assert set(schema["required"]) <= set(given) <= set(schema["properties"])
        assert all(isinstance(value, str) for value in given.values())
    return [call.function.name for call in calls]


@pytest.mark.parametrize("thinking", [True, False])
def test_a_required_call_is_always_made(served: "Served", *, thinking: bool) -> None:
    kwargs = {"chat_template_kwargs": {"enable_thinking": thinking}}
    names: Counter[str] = Counter()
    for seed in range(5):
        answer = ask(served, tool_choice="required", seed=seed, extra_body=kwargs, n=2)
        assert len(answer.choices) == 2
        for choice in answer.choices:
            assert choice.finish_reason == "tool_calls"
            assert choice.message.content is None
            assert (choice.message.model_extra["reasoning_content"] is not None) <= thinking
            names.update(check_calls(choice.message.tool_calls))
    assert len(names) > 1


def test_a_named_tool_is_called_once(served: "Served") -> None:
    for seed in range(3):
        named: Any = {"type": "function", "function": {"name": "edit"}}
        (choice,) = ask(served, tool_choice=named, seed=seed).choices
        assert check_calls(choice.message.tool_calls) == ["edit"]


def test_a_forced_call_comes_the_same_in_a_stream(served: "Served") -> None:
    options: dict[str, Any] = {"tool_choice": "required", "parallel_tool_calls": False, "seed": 3}
    (whole,) = ask(served, **options).choices
    parts = [choice for chunk in ask(served, stream=True, **options) for choice in chunk.choices]
    (told,) = [part.delta.tool_calls for part in parts if part.delta.tool_calls]
    (call,) = whole.message.tool_calls
    assert (told[0].function.name, told[0].function.arguments) == (call.function.name, call.function.arguments)
    assert parts[-1].finish_reason == whole.finish_reason == "tool_calls"


def test_a_call_that_is_too_long_for_the_limit_is_refused(served: "Served") -> None:
    with pytest.raises(openai.BadRequestError, match=r"the shortest call has \d+ tokens and the answer may have 5"):
        ask(served, tool_choice="required", max_tokens=5)


def test_a_tool_that_is_not_declared_cannot_be_asked_for(served: "Served") -> None:
    named: Any = {"type": "function", "function": {"name": "rm"}}
    with pytest.raises(openai.BadRequestError, match="'rm' is not one of the tools: 'ls, edit, bash'"):
        ask(served, tool_choice=named)
    with pytest.raises(openai.BadRequestError, match=r"tools\[3\]: the name 'ls' is declared twice"):
        ask(served, tools=[*TOOLS, TOOLS[0]])


@pytest.mark.parametrize("kind", ["chat", "plain"])
def test_choices_have_seeds_of_their_own_and_add_up(served: "Served", kind: str) -> None:
    def create(**options: Any) -> Any:
        told = {"return_token_ids": True, "return_routed_experts": True, "ignore_eos": True}
        common: dict[str, Any] = {"model": "tiny", "max_tokens": 20, "seed": 7, "extra_body": told, **options}
        if kind == "plain":
            return served.client.completions.create(prompt="def main", **common)
        return served.client.chat.completions.create(messages=HELLO, **common)

    single, several = create(), create(n=4)
    tokens = [choice.model_extra["token_ids"] for choice in several.choices]
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert tokens[0] == single.choices[0].model_extra["token_ids"]
    assert len({tuple(one) for one in tokens}) == 4
    assert several.usage.completion_tokens == 80
    assert several.usage.prompt_tokens == single.usage.prompt_tokens
    assert several.usage.total_tokens == single.usage.prompt_tokens + 80
    assert several.choices[0].model_extra["sglext"] == single.model_extra["sglext"]
    assert len({choice.model_extra["sglext"]["routed_experts"] for choice in several.choices}) == 4
    assert create(n=4).choices == several.choices

    chunks = list(create(n=4, stream=True, stream_options={"include_usage": True}))
    parts = [choice for chunk in chunks for choice in chunk.choices]
    for place, choice in enumerate(several.choices):
        own = [part for part in parts if part.index == place]
        assert [token for part in own for token in part.model_extra["token_ids"]] == tokens[place]
        assert [part.finish_reason for part in own if part.finish_reason] == ["length"]
        assert own[-1].model_extra["sglext"] == choice.model_extra["sglext"]
    assert chunks[-1].usage == several.usage


def test_the_first_choice_goes_on_with_the_conversation(served: "Served") -> None:
    options: dict[str, Any] = {"model": "tiny", "max_tokens": 8, "seed": 1}
    extra = {"prompt_cache_key": "several", "chat_template_kwargs": {"enable_thinking": False}}
    first = served.client.chat.completions.create(messages=HELLO, n=3, extra_body=extra, **options)
    message: Any = first.choices[0].message.model_dump()
    messages = [*HELLO, message, {"role": "user", "content": "go on"}]
    second = served.client.chat.completions.create(messages=messages, n=2, extra_body=extra, **options)
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) > 10


def test_a_full_queue_takes_all_choices_or_none(served: "Served") -> None:
    served.wait_for("open_requests", 0)
    options: dict[str, Any] = {"model": "tiny", "prompt": "x", "extra_body": {"ignore_eos": True}}
    stream = served.client.completions.create(max_tokens=600, n=4, stream=True, **options)
    with pytest.raises(openai.RateLimitError):
        served.client.completions.create(max_tokens=1, n=5, **options)
    assert len(served.client.completions.create(max_tokens=1, n=4, **options).choices) == 4
    stream.close()
    served.wait_for("open_requests", 0)
    served.wait_for("running_requests", 0)


def test_biases_and_penalties_reach_the_tokens(served: "Served", tokenizer: Tokenizer) -> None:
    def tokens(**options: Any) -> list[int]:
        answer = served.client.completions.create(
            model="tiny", prompt="def main", max_tokens=40, temperature=0, **options
        )
        found: list[int] = (answer.choices[0].model_extra or {})["token_ids"]
        return found

    told = {"return_token_ids": True, "ignore_eos": True}
    plain = tokens(extra_body=told)
    assert max(Counter(plain).values()) > 4
    assert max(Counter(tokens(extra_body=told, presence_penalty=2, frequency_penalty=2)).values()) < max(
        Counter(plain).values()
    )
    assert len(set(tokens(extra_body={**told, "repetition_penalty": 8}))) > len(set(plain))
    assert plain[0] not in tokens(extra_body=told, logit_bias={str(plain[0]): -100})
    assert tokens(extra_body=told, logit_bias={"65": 100}) == [65] * 40
