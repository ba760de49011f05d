"""Bodies of clients: fields that are not built are refused by name, others come out as messages and tools."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.errors import RequestRefusedError
from envfarm.model.chat import Message, Role, Tool, ToolCall
from envfarm.model.server.bodies import ChatBody, CompletionBody, conversation_of, parse_body, tools_to_call


def parse(**fields: Any) -> ChatBody:
    messages = [{"role": "user", "content": "x"}]
    return parse_body(json.dumps({"model": "m", "messages": messages, **fields}).encode(), ChatBody)


def test_a_conversation_comes_out_as_messages_and_tools() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"n": 5, "s": "5 "}'}}
    body = parse(
        messages=[
            {"role": "developer", "content": "rules"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "done"},
        ],
        tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}],
        unknown_field={"is": "ignored"},
    )
    messages, tools = conversation_of(body)
    assert messages == [
        Message(role=Role.SYSTEM, content="rules"),
        Message(role=Role.USER, content="ab"),
        Message(
            role=Role.ASSISTANT,
            reasoning="hm",
            tool_calls=(ToolCall(name="f", arguments={"n": "5", "s": "5 "}),),
        ),
        Message(role=Role.TOOL, content="done"),
    ]
    assert tools == [Tool(name="f", parameters=schema)]


@pytest.mark.parametrize(
    "harmless",
    [
        {"best_of": 1},
        {"length_penalty": 1.0},
        {"min_p": 0.0, "min_tokens": 0, "guided_json": None},
        {"modalities": ["text"], "bad_words": [], "use_beam_search": False},
    ],
)
def test_values_that_change_nothing_are_taken(harmless: dict[str, Any]) -> None:
    assert parse(**harmless).model == "m"


@pytest.mark.parametrize(
    "field",
    [
        {"response_format": {"type": "json_object"}},
        {"min_p": 0.1},
        {"min_tokens": 5},
        {"guided_json": {"type": "object"}},
        {"guided_regex": "a+"},
        {"guided_choice": ["a", "b"]},
        {"guided_grammar": "root ::= 'a'"},
        {"structured_outputs": {"regex": "a+"}},
        {"regex": "a+"},
        {"bad_words": ["x"]},
        {"allowed_token_ids": [1]},
        {"continue_final_message": True},
        {"functions": [{"name": "f"}]},
    ],
)
def test_what_is_not_built_is_refused_by_name(field: dict[str, Any]) -> None:
    (name,) = field
    with pytest.raises(RequestRefusedError, match=f"{name}: .* is not built"):
        parse(**field)


def test_a_refused_value_is_repeated_in_part_only() -> None:
    with pytest.raises(RequestRefusedError, match=r"guided_json: .* is not built") as error:
        parse(guided_json={"x" * 10_000: 1})
    assert len(str(error.value)) < 100


@pytest.mark.parametrize("depth", [10, *range(800, 1000, 20), *range(900, 1000), 100_000])
def test_nesting_of_any_depth_is_refused(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    with pytest.raises(RequestRefusedError):
        parse_body(b'{"model": "m", "prompt": "x", "guided_json": ' + nested + b"}", CompletionBody)


def test_stop_tokens_are_numbers() -> None:
    assert parse(stop_token_ids=[3, 4]).stop_token_ids == [3, 4]
    with pytest.raises(RequestRefusedError, match="stop_token_ids"):
        parse(stop_token_ids=["</s>"])


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["f", "g", "f"], r"tools\[2\]: the name 'f' is declared twice"),
        ([""], r"tools\[0\]: the name '' is empty"),
        (["f", "a b"], r"tools\[1\]: the name 'a b' is empty, or has blanks"),
        (["</tools>"], "angle brackets"),
    ],
)
def test_tools_that_cannot_be_called_are_refused(names: list[str], complaint: str) -> None:
    body = parse(tools=[{"type": "function", "function": {"name": name}} for name in names])
    with pytest.raises(RequestRefusedError, match=complaint):
        conversation_of(body)


def tools_of(choice: Any, *names: str) -> list[str]:
    body = parse(tools=[{"type": "function", "function": {"name": name}} for name in names], tool_choice=choice)
    return [tool.name for tool in tools_to_call(body, conversation_of(body)[1])]


def test_a_choice_of_tools_says_which_may_be_called() -> None:
    named = {"type": "function", "function": {"name": "g"}}
    assert [tools_of(choice, "f", "g") for choice in (None, "auto", "none", "required", named)] == [
        [],
        [],
        [],
        ["f", "g"],
        ["g"],
    ]
    with pytest.raises(RequestRefusedError, match="tool_choice: 'g' is not one of the tools: 'f, h'"):
        tools_of(named, "f", "h")
    for choice in ("required", named):
        with pytest.raises(RequestRefusedError, match="no tools are declared"):
            tools_of(choice)
    for strange in ("sometimes", {"type": "allowed_tools"}, {"type": "function"}, 5):
        with pytest.raises(RequestRefusedError, match="tool_choice"):
            tools_of(strange, "f")


@given(content=st.binary())
def test_any_bytes_are_a_body_or_are_refused(content: bytes) -> None:
    with pytest.raises(RequestRefusedError, match="the body cannot be read"):
        parse_body(content, CompletionBody)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
    field=st.sampled_from(list(ChatBody.__struct_fields__)),
)
def test_any_value_of_any_field_is_taken_or_refused(value: Any, field: str) -> None:
    try:
        body = parse(**{field: value})
        conversation_of(body)
    except RequestRefusedError as error:
        assert str(error)  # noqa: PT017 -- refusing is right as well
