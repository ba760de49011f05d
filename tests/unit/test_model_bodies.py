"""Bodies of clients: fields that are not built are refused by name, others come out as messages and tools."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.errors import RequestRefusedError
from envfarm.model.chat import Message, Role, Tool, ToolCall
from envfarm.model.server.bodies import ChatBody, CompletionBody, conversation_of, parse_body


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


@pytest.mark.parametrize("harmless", [{"n": 1}, {"logit_bias": {}}, {"presence_penalty": 0.0}, {"tool_choice": "auto"}])
def test_values_that_change_nothing_are_taken(harmless: dict[str, Any]) -> None:
    assert parse(**harmless).model == "m"


@pytest.mark.parametrize(
    "field",
    [
        {"n": 2},
        {"logit_bias": {"1": 5}},
        {"frequency_penalty": 0.5},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_what_is_not_built_is_refused_by_name(field: dict[str, Any]) -> None:
    (name,) = field
    with pytest.raises(RequestRefusedError, match=f"{name}: .* is not built"):
        parse(**field)


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
