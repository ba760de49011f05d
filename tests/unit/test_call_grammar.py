"""Replies that have to be calls, byte by byte: what the grammar takes is what the parser reads as proper calls."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.errors import RequestRefusedError
from envfarm.model.call_grammar import CallGrammar, Place, State
from envfarm.model.chat import Message, Role, Tool, ToolCall
from envfarm.model.chat_reply import parse_reply
from envfarm.model.chat_template import TURN_END, render_reply


def make_tool(name: str, *keys: str, required: tuple[str, ...] = ()) -> Tool:
    return Tool(name=name, parameters={"properties": {key: {} for key in keys}, "required": list(required)})


TOOLS = (
    make_tool("ls"),
    make_tool("edit", "path", "old", "new", required=("path", "new")),
    make_tool("edits", "é", required=("é",)),
)


def walk(grammar: CallGrammar, pieces: list[bytes | str], state: State | None = None) -> State | None:
    """Return where a reply is after text as bytes and tags by name."""
    state = state or grammar.start
    for piece in pieces:
        following = grammar.tags(state).get(piece) if isinstance(piece, str) else grammar.advance(state, piece)
        if following is None:
            return None
        state = following
    return state


def written(message: Message) -> list[bytes | str]:
    return [piece.text if piece.is_tag else piece.text.encode() for piece in render_reply(message)]


def reply_of(*calls: ToolCall) -> list[bytes | str]:
    return [*written(Message(role=Role.ASSISTANT, reasoning="hm < </thin", tool_calls=calls)), TURN_END]


LS = ToolCall(name="ls")
EDIT = ToolCall(name="edit", arguments={"new": "a</parameter\n<parameter=x>", "path": ""})


def test_what_the_template_writes_is_taken() -> None:
    grammar = CallGrammar(TOOLS, thinking=True, several=True)
    for calls in ((LS,), (EDIT,), (LS, EDIT, LS), (ToolCall(name="edits", arguments={"é": "ü"}),)):
        end = walk(grammar, reply_of(*calls))
        assert end is not None
        assert end.place is Place.OVER
    assert walk(CallGrammar(TOOLS, thinking=False, several=True), reply_of(LS)[3:]) is not None


@pytest.mark.parametrize(
    "call",
    [
        ToolCall(name="rm"),
        ToolCall(name="ls", arguments={"path": ""}),
        ToolCall(name="edit", arguments={"path": ""}),
        ToolCall(name="edit", arguments={"path": "", "new": "", "mode": ""}),
        ToolCall(name="edit", arguments={"path": "", "new": "</parameter>"}),
    ],
    ids=["another tool", "no such parameter", "one is missing", "one too many", "a value that ends itself"],
)
def test_other_calls_are_not_taken(call: ToolCall) -> None:
    assert walk(CallGrammar(TOOLS, thinking=True, several=True), reply_of(call)) is None


def test_one_call_only_where_there_may_not_be_several() -> None:
    grammar = CallGrammar(TOOLS, thinking=True, several=False)
    assert walk(grammar, reply_of(LS)) is not None
    assert walk(grammar, reply_of(LS, LS)) is None


def test_there_is_no_reply_without_a_call() -> None:
    grammar = CallGrammar(TOOLS, thinking=True, several=True)
    assert walk(grammar, reply_of()) is None
    assert walk(grammar, written(Message(role=Role.ASSISTANT, content="no", tool_calls=(LS,)))) is None


@pytest.mark.parametrize("strange", [5, [], None, "x", [3], {"a": 5}])
def test_schemas_of_any_form_are_taken(strange: Any) -> None:
    tool = Tool(name="f", parameters={"properties": strange, "required": strange})
    assert CallGrammar([tool], thinking=False, several=False).calls()


def test_a_required_parameter_that_no_call_can_have_is_refused() -> None:
    with pytest.raises(RequestRefusedError, match="'a b' in 'f' has characters"):
        CallGrammar([make_tool("f", "a b", required=("a b",))], thinking=True, several=True)


@given(data=st.data(), thinking=st.booleans(), several=st.booleans())
def test_whatever_is_taken_can_be_ended_and_is_read_as_calls(
    data: st.DataObject, *, thinking: bool, several: bool
) -> None:
    grammar = CallGrammar(TOOLS, thinking=thinking, several=several)
    state, text = grammar.start, b""
    for _ in range(data.draw(st.integers(0, 60))):
        if state.place is Place.OVER:
            break
        steps: list[bytes | str] = [*grammar.tags(state)]
        steps += [byte for byte in map(bytes, zip(range(256))) if grammar.advance(state, byte) is not None]
        ahead = grammar.closing(state)[0]  # as likely as everything else: calls are written to their end
        likely = ahead if isinstance(ahead, str) else ahead[:1]
        step = data.draw(st.sampled_from([*steps, *[likely] * len(steps)]))
        following = grammar.tags(state)[step] if isinstance(step, str) else grammar.advance(state, step)
        assert following is not None
        state = following
        text += step.encode() if isinstance(step, str) else step
    closing = grammar.closing(state)
    end = walk(grammar, closing, state)
    assert end is not None
    assert end.place is Place.OVER
    text += b"".join(piece.encode() if isinstance(piece, str) else piece for piece in closing)
    reply = parse_reply(text.decode("utf-8", "replace").removesuffix(TURN_END), thinking=thinking)
    assert reply.complaints == ()
    assert reply.message.content == ""
    calls = reply.message.tool_calls
    assert calls
    assert several or len(calls) == 1
    tools = {tool.name: tool for tool in TOOLS}
    for call in calls:
        schema = tools[call.name].parameters
        assert set(schema["required"]) <= set(call.arguments) <= set(schema["properties"])
