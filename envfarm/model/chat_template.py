"""Turns a conversation into text in MiMo's form, as pieces that say which are tags and which were written. PURE.

A tokenizer has to encode the pieces one by one, tags as special tokens and the rest as plain text: otherwise a file
or a web page that a tool read could end the turn, or pretend to be the user.

The wording of the tools' introduction is ours; tags, their order and their line breaks are the real model's.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from envfarm.model.chat import Message, Role, Tool, ToolCall

TURN, TURN_END = "<|im_start|>", "<|im_end|>"
THINK, THINK_END = "<think>", "</think>"
CALL, CALL_END = "<tool_call>", "</tool_call>"
RESPONSE, RESPONSE_END = "<tool_response>", "</tool_response>"
TAGS = (TURN, TURN_END, THINK, THINK_END, CALL, CALL_END, RESPONSE, RESPONSE_END)
"""Each is one special token."""
_TOOLS = (
    "# Tools\n\nYou may call these functions:\n<tools>\n{tools}\n</tools>\n\n"
    "Write a call as\n<tool_call>\n<function=NAME>\n<parameter=KEY>VALUE</parameter>\n</function>\n</tool_call>\n"
    "with one parameter element for each argument. Values are taken verbatim."
)


@dataclass(frozen=True)
class Piece:
    """Text of one sort: a tag, to become one special token, or what somebody wrote, to become plain tokens."""

    text: str
    is_tag: bool = False


def render_conversation(
    messages: Sequence[Message], tools: Sequence[Tool] = (), *, reply: bool = True, thinking: bool = True
) -> tuple[Piece, ...]:
    """Return the whole conversation.

    Args:
        messages: A system message stands first, if there is one. Neighbouring tool messages share a turn.
        tools: Declared at the end of the system turn.
        reply: End with the beginning of the assistant's next turn.
        thinking: False begins that turn with empty reasoning, so that the model answers at once.
    """
    return tuple(_joined(_conversation(messages, tools, reply=reply, thinking=thinking)))


def render_reply(message: Message) -> tuple[Piece, ...]:
    """Return what the assistant writes for this message, without the turn's beginning and end."""
    return tuple(_joined(_reply(message)))


def text_of(pieces: Iterable[Piece]) -> str:
    """Return the pieces as one text, for people and for goldens: which parts are tags is lost."""
    return "".join(piece.text for piece in pieces)


def _conversation(
    messages: Sequence[Message], tools: Sequence[Tool], *, reply: bool, thinking: bool
) -> Iterator[Piece]:
    rest = list(messages)
    system = rest.pop(0).content if rest and rest[0].role is Role.SYSTEM else ""
    introduction = _TOOLS.format(tools="\n".join(map(_declaration, tools))) if tools else ""
    if system or introduction:
        yield from _turn(Role.SYSTEM, [Piece("\n\n".join(filter(None, (system, introduction))))])
    while rest:
        message = rest.pop(0)
        if message.role is not Role.TOOL:
            body = _reply(message) if message.role is Role.ASSISTANT else [Piece(message.content)]
            yield from _turn(message.role, body)
            continue
        responses = list(_response(message))
        while rest and rest[0].role is Role.TOOL:
            responses += _response(rest.pop(0))
        yield from _turn(Role.TOOL, responses)
    if reply:
        yield from (Piece(TURN, is_tag=True), Piece(f"{Role.ASSISTANT}\n"))
        if not thinking:
            yield from (Piece(THINK, is_tag=True), Piece(THINK_END, is_tag=True))


def _turn(role: Role, body: Iterable[Piece]) -> Iterator[Piece]:
    yield Piece(TURN, is_tag=True)
    yield Piece(f"{role}\n")
    yield from body
    yield Piece(TURN_END, is_tag=True)


def _reply(message: Message) -> Iterator[Piece]:
    yield Piece(THINK, is_tag=True)
    yield Piece(message.reasoning)
    yield Piece(THINK_END, is_tag=True)
    yield Piece(message.content)
    for number, call in enumerate(message.tool_calls):
        if number:
            yield Piece("\n")
        yield Piece(CALL, is_tag=True)
        yield Piece(_call(call))
        yield Piece(CALL_END, is_tag=True)


def _call(call: ToolCall) -> str:
    values = "".join(f"<parameter={key}>{value}</parameter>\n" for key, value in call.arguments.items())
    return f"\n<function={call.name}>\n{values}</function>\n"


def _response(message: Message) -> Iterator[Piece]:
    yield Piece(RESPONSE, is_tag=True)
    yield Piece(f"\n{message.content}\n")
    yield Piece(RESPONSE_END, is_tag=True)
    yield Piece("\n")


def _declaration(tool: Tool) -> str:
    schema = json.dumps(dict(tool.parameters), ensure_ascii=False)
    return (
        f"<function>\n<name>{tool.name}</name>\n<description>{tool.description}</description>\n"
        f"<parameters>{schema}</parameters>\n</function>"
    )


def _joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yield the same without empty pieces, neighbours that were written as one: tokens must not depend on seams."""
    written = ""
    for piece in pieces:
        if not piece.is_tag:
            written += piece.text
            continue
        if written:
            yield Piece(written)
        written = ""
        yield piece
    if written:
        yield Piece(written)
