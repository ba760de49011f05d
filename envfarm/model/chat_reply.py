"""Takes the assistant's text apart: reasoning, content, tool calls, and what looked like a call and was none. PURE.

Nothing is raised and nothing is mended: a policy's malformed call is an outcome, told by a complaint.
Values are verbatim. A value may hold any text, closing tags included, but for the exact end of its own element: the
closing tag followed by the next parameter or by the end of the call.

Covered: text cut off anywhere, several calls, text around them, repeated keys, tags as text inside of values.
Not covered: whether a tool exists and takes these arguments.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envfarm.model.chat import Message, Role, Tool, ToolCall
from envfarm.model.chat_template import CALL, CALL_END, THINK, THINK_END

_HEAD = re.compile(r"\s*<function=([^\s<>]+)>\s*")
_KEY = re.compile(r"<parameter=([^\s<>]+)>")
_VALUE_END = re.compile(rf"</parameter>\s*(?=<parameter=[^\s<>]+>|</function>\s*{CALL_END})")
_END = re.compile(rf"</function>\s*{CALL_END}")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the assistant wrote.

    Attributes:
        message: Reasoning, content and calls. What was no proper call is part of the content, verbatim.
        complaints: Why something that began like a call is none, in order; empty for a proper reply.
        is_still_thinking: The text ended inside the reasoning.
    """

    message: Message
    complaints: tuple[str, ...] = ()
    is_still_thinking: bool = False


def parse_reply(text: str, *, thinking: bool = True) -> Reply:
    """Return the parts of a reply.

    Args:
        text: Everything after the beginning of the assistant's turn, without the turn's end.
        thinking: False where the prompt already closed the reasoning.
    """
    reasoning, rest, ended = _split_reasoning(text) if thinking else ("", text, True)
    if not ended:
        return Reply(message=Message(role=Role.ASSISTANT, reasoning=reasoning), is_still_thinking=True)
    content, calls, complaints = _split_calls(rest)
    message = Message(role=Role.ASSISTANT, content=content, reasoning=reasoning, tool_calls=tuple(calls))
    return Reply(message=message, complaints=tuple(complaints))


def typed_arguments(call: ToolCall, tool: Tool) -> dict[str, Any]:
    """Return the arguments as the tool's schema wants them: text stays text, other types are read as JSON.

    A value that is not JSON, or not of its type, stays the text that it is: whoever runs the tool refuses it.
    """
    given = tool.parameters.get("properties")
    properties = given if isinstance(given, Mapping) else {}  # clients' schemas are not checked
    return {key: _typed(value, properties.get(key, {})) for key, value in call.arguments.items()}


def written_arguments(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return arguments of any type as the model writes them: text verbatim, everything else as JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in arguments.items()
    }


def _split_reasoning(text: str) -> tuple[str, str, bool]:
    """Return reasoning, what follows it, and whether the reasoning ended."""
    begun = text.lstrip()
    if not begun.startswith(THINK):
        # A prefix of the tag is reasoning that has not begun yet; anything else is a reply without any.
        return "", text, not (begun and THINK.startswith(begun))
    reasoning, end, rest = begun.removeprefix(THINK).partition(THINK_END)
    return reasoning, rest, bool(end)


def _split_calls(text: str) -> tuple[str, list[ToolCall], list[str]]:
    """Return content, calls and complaints; text between calls joins the content on a line of its own."""
    parts: list[str] = []
    calls: list[ToolCall] = []
    complaints: list[str] = []
    done = position = 0
    while (start := text.find(CALL, position)) >= 0:
        call, position = _parse_call(text, start + len(CALL))
        if isinstance(call, str):
            complaints.append(call)
            continue
        parts.append(text[done:start])
        calls.append(call)
        done = position
    parts.append(text[done:])
    return "\n".join(part for part in parts if part.strip()), calls, complaints


def _parse_call(text: str, position: int) -> tuple[ToolCall | str, int]:
    """Return the call behind its opening tag, or why it is none, and where to go on: never before what was read."""
    head = _HEAD.match(text, position)
    if head is None:
        return f"{CALL} has to be followed by <function=NAME>", position
    arguments: dict[str, str] = {}
    position = head.end()
    while (key := _KEY.match(text, position)) is not None:
        end = _VALUE_END.search(text, key.end())
        if end is None:  # whatever follows may be inside of this value
            return f"parameter {key[1]} of {head[1]} has no end", len(text)
        if key[1] in arguments:
            return f"parameter {key[1]} of {head[1]} is given twice", end.end()
        arguments[key[1]] = text[key.end() : end.start()]
        position = end.end()
    end = _END.match(text, position)
    if end is None:
        return f"the call of {head[1]} has to go on with <parameter=KEY> or </function> and {CALL_END}", position
    return ToolCall(name=head[1], arguments=arguments), end.end()


_TYPES: Mapping[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def _typed(value: str, schema: Any) -> Any:
    wanted = schema.get("type") if isinstance(schema, Mapping) else None
    names = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
    if not names or "string" in names:
        return value
    try:
        read = json.loads(value)
        json.dumps(read, allow_nan=False, ensure_ascii=False).encode()  # no clients' JSON has NaN, or half a character
    except (ValueError, RecursionError):
        return value
    fits = any(type(read) in _TYPES.get(name, ()) for name in names if isinstance(name, str))
    return read if fits else value
