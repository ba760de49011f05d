"""Replies taken apart: tables, render and parse and render, fuzzing."""

import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from envfarm.model.chat import Message, Role, Tool, ToolCall
from envfarm.model.chat_reply import Reply, parse_reply, typed_arguments, written_arguments
from envfarm.model.chat_template import CALL, render_reply, text_of

LS = "<tool_call>\n<function=bash>\n<parameter=command>ls</parameter>\n</function>\n</tool_call>"
NAMES = st.text("abz_-.19", min_size=1, max_size=6)
WRITTEN = st.text(max_size=20)
PARTS = ["<tool_call>", "</tool_call>", "<function=f>", "</function>", "<parameter=a>", "<parameter=b>", "</parameter>"]
PARTS += ["<think>", "</think>", "\n", " ", "x", "<function=>", "<parameter=", LS]
SOUP = st.lists(st.sampled_from(PARTS), max_size=14).map("".join)


def call(name: str = "bash", **arguments: str) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


def said(content: str = "", *calls: ToolCall, reasoning: str = "") -> Message:
    return Message(role=Role.ASSISTANT, content=content, reasoning=reasoning, tool_calls=calls)


CASES: dict[str, tuple[str, Message]] = {
    "text alone": ("hello", said("hello")),
    "reasoning": ("<think>why\n</think>\nhello ", said("\nhello ", reasoning="why\n")),
    "empty reasoning": ("<think></think>hello", said("hello")),
    "a call": (f"<think>a</think>{LS}", said("", call(command="ls"), reasoning="a")),
    "text and a call": (f"I look.\n{LS}", said("I look.\n", call(command="ls"))),
    "two calls": (f"{LS}\n{LS}", said("", call(command="ls"), call(command="ls"))),
    "two calls without a break": (f"{LS}{LS}", said("", call(command="ls"), call(command="ls"))),
    "text around calls": (f"a{LS}b{LS}c", said("a\nb\nc", call(command="ls"), call(command="ls"))),
    "no arguments": ("<tool_call>\n<function=finish>\n</function>\n</tool_call>", said("", call("finish"))),
    "without line breaks": (
        "<tool_call><function=f><parameter=a>1</parameter><parameter=b>2</parameter></function></tool_call>",
        said("", call("f", a="1", b="2")),
    ),
    "values verbatim": (
        (
            "<tool_call>\n<function=f>\n<parameter=a>\n  x\n\t\n</parameter>\n<parameter=b></parameter>\n"
            "</function>\n</tool_call>"
        ),
        said("", call("f", a="\n  x\n\t\n", b="")),
    ),
    "closing tags in a value": (
        (
            "<tool_call>\n<function=f>\n<parameter=a></parameter> </function> x <parameter=b> </tool_call>"
            "</parameter>\n</function>\n</tool_call>"
        ),
        said("", call("f", a="</parameter> </function> x <parameter=b> </tool_call>")),
    ),
    "a tag in reasoning": (f"<think>{LS}</think>no", said("no", reasoning=LS)),
}


@pytest.mark.parametrize(("text", "message"), CASES.values(), ids=CASES)
def test_a_reply_is_taken_apart(text: str, message: Message) -> None:
    assert parse_reply(text) == Reply(message=message)


COMPLAINTS: dict[str, tuple[str, str, int]] = {
    "no function": ("<tool_call>ls</tool_call>", "has to be followed by <function=NAME>", 0),
    "a function without a name": ("<tool_call><function=></function></tool_call>", "<function=NAME>", 0),
    "JSON": ('<tool_call>{"name": "bash"}</tool_call>', "<function=NAME>", 0),
    "cut off in the value": ("<tool_call>\n<function=f>\n<parameter=a>rm -rf", "parameter a of f has no end", 0),
    "cut off behind the value": ("<tool_call><function=f><parameter=a>x</parameter>\n</func", "a of f has no end", 0),
    "cut off behind the name": ("<tool_call>\n<function=f>\n", "the call of f has to go on", 0),
    "the call is not closed": ("<tool_call><function=f></function>", "the call of f has to go on", 0),
    "twice": (
        "<tool_call><function=f><parameter=a>1</parameter><parameter=a>2</parameter></function></tool_call>",
        "parameter a of f is given twice",
        0,
    ),
    "text between parameters": (
        f"<tool_call><function=f>text<parameter=a>1</parameter></function></tool_call>{LS}", "the call of f", 1,
    ),
    "a good call after a bad one": (f"<tool_call>ls</tool_call>{LS}", "<function=NAME>", 1),
    "a call inside of a value that has no end": (
        "<tool_call><function=f><parameter=a>do not <tool_call><function=g></function></tool_call>", "has no end", 0,
    ),
    "a good call before a cut one": (f"{LS}<tool_call><function=f><parameter=a>", "has no end", 1),
}  # fmt: skip


@pytest.mark.parametrize(("text", "told", "calls"), COMPLAINTS.values(), ids=COMPLAINTS)
def test_what_is_no_call_is_told_and_stays_in_the_content(text: str, told: str, calls: int) -> None:
    reply = parse_reply(text)
    assert [told in complaint for complaint in reply.complaints] == [True]
    assert len(reply.message.tool_calls) == calls
    assert reply.message.content.startswith("<tool_call>")
    assert LS not in reply.message.content


@pytest.mark.parametrize("text", ["<think>", "<think>because", "<thi", "  <think>\n"])
def test_a_text_that_ends_in_its_reasoning_says_so(text: str) -> None:
    reply = parse_reply(text)
    assert reply.is_still_thinking
    assert (reply.message.content, reply.message.tool_calls) == ("", ())


def test_reasoning_that_the_prompt_closed_is_not_looked_for() -> None:
    assert parse_reply("<think>a</think>b", thinking=False).message == said("<think>a</think>b")


def without_tags(text: str) -> bool:
    return CALL not in text and "</think>" not in text


MESSAGES = st.builds(
    said,
    WRITTEN.filter(lambda text: without_tags(text) and bool(text.strip()) == bool(text)),
    reasoning=WRITTEN.filter(without_tags),
)
VALUES = WRITTEN | st.sampled_from(["</parameter>", "</function>\n</tool_call>", "<tool_call>", "<think>", "</think>"])
CALLS = st.lists(st.builds(ToolCall, name=NAMES, arguments=st.dictionaries(NAMES, VALUES, max_size=3)), max_size=3)


@given(MESSAGES, CALLS)
def test_what_is_rendered_is_parsed_as_it_was(message: Message, calls: list[ToolCall]) -> None:
    whole = said(message.content, *calls, reasoning=message.reasoning)
    assert parse_reply(text_of(render_reply(whole))) == Reply(message=whole)


@given(text=SOUP | WRITTEN, thinking=st.booleans())
@example(text=f"<think>a</think>b{LS}c", thinking=True)
def test_any_text_is_parsed_and_a_proper_one_renders_to_the_same(text: str, thinking: bool) -> None:  # noqa: FBT001 -- drawn
    reply = parse_reply(text, thinking=thinking)
    written = reply.message.content + reply.message.reasoning
    written += "".join("".join(call.arguments.values()) for call in reply.message.tool_calls)
    assert not set(written) - set(text) - {"\n"}
    if not reply.complaints and not reply.is_still_thinking and not reply.message.reasoning:
        again = parse_reply(text_of(render_reply(reply.message)))
        assert again == Reply(message=reply.message)
        assert text_of(render_reply(again.message)) == text_of(render_reply(reply.message))


@pytest.mark.parametrize(
    "piece",
    [
        "<tool_call>",
        "<tool_call><function=f><parameter=a>",
        "<tool_call><function=f><parameter=a></parameter><parameter=a>",
        "<tool_call><function=f>" + "</parameter> " * 3,
        "</parameter>\n",
        LS,
    ],
)
def test_long_hostile_texts_take_no_time(piece: str) -> None:
    started = time.process_time()
    parse_reply(piece * (400_000 // len(piece)))
    assert time.process_time() - started < 2


SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "flag": {"type": "boolean"},
        "list": {"type": "array"},
        "map": {"type": "object"},
        "maybe": {"type": ["integer", "null"]},
        "either": {"type": ["integer", "string"]},
    },
}
TYPED: list[tuple[str, str, Any]] = [
    ("text", "1", "1"),
    ("text", "null", "null"),
    ("count", "12", 12),
    ("count", "1.5", "1.5"),
    ("count", "true", "true"),
    ("count", "twelve", "twelve"),
    ("share", "0.5", 0.5),
    ("share", "2", 2),
    ("share", "1e999", "1e999"),
    ("share", "NaN", "NaN"),
    ("list", '["\\ud800"]', '["\\ud800"]'),
    ("flag", "true", True),
    ("flag", "True", "True"),
    ("flag", "1", "1"),
    ("list", '["a", 1]', ["a", 1]),
    ("map", '{"a": {}}', {"a": {}}),
    ("map", "{", "{"),
    ("map", "[" * 100_000, "[" * 100_000),
    ("maybe", "null", None),
    ("maybe", "3", 3),
    ("either", "3", "3"),
    ("unknown", "3", "3"),
]


@pytest.mark.parametrize(("key", "value", "typed"), TYPED, ids=[f"{k} {v[:12]}" for k, v, _ in TYPED])
def test_arguments_get_the_types_of_the_schema(key: str, value: str, typed: Any) -> None:
    found = typed_arguments(call("f", **{key: value}), Tool(name="f", parameters=SCHEMA))[key]
    assert (found, type(found)) == (typed, type(typed))


@pytest.mark.parametrize("properties", [None, [], ["count"], "count", 3, {"count": None}, {"count": ["integer"]}])
def test_a_schema_that_is_none_leaves_arguments_as_text(properties: Any) -> None:
    tool = Tool(name="f", parameters={"properties": properties})
    assert typed_arguments(call("f", count="3"), tool) == {"count": "3"}


def test_arguments_are_written_as_they_are_read() -> None:
    arguments = {"text": "a\n", "count": 3, "flag": False, "list": ["ä"], "map": {"a": None}, "maybe": None}
    written = written_arguments(arguments)
    assert written["text"] == "a\n"
    assert typed_arguments(call("f", **written), Tool(name="f", parameters=SCHEMA)) == arguments
