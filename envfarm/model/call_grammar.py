"""What a reply may be that has to be a call: the chat template's grammar, byte by byte, for a set of tools. PURE.

A reply is reasoning, if the turn begins with it, and then one call or several, without text around them. Names are
those of the tools; parameters are those that the tool's schema declares, each at most once, required ones always; a
tool that declares none is called without any.

Not covered: values. They are any text without tags and without `</parameter>`; schemas are not compared with them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from envfarm.errors import RequestRefusedError
from envfarm.model.chat import Tool
from envfarm.model.chat_template import CALL, CALL_END, THINK, THINK_END, TURN_END

_NAME = re.compile(r"[^\s<>]+")
_VALUE_END = b"</parameter>"
_CALL_TEXT_END = b"</function>\n"


class Place(Enum):
    """Where in a reply the next byte or tag stands."""

    START = auto()
    REASONING = auto()
    CALL = auto()
    HEAD = auto()
    PARAMETERS = auto()
    VALUE = auto()
    VALUE_END = auto()
    CALL_END = auto()
    AFTER = auto()
    OVER = auto()


@dataclass(frozen=True)
class State:
    """How far a reply is.

    Attributes:
        place: What is being written.
        tool: Which tool is called.
        given: Parameters that were begun.
        matched: What is written of the text that has to stand here, or of the text that ends a value or reasoning.
    """

    place: Place
    tool: int = -1
    given: frozenset[str] = frozenset()
    matched: bytes = b""


@dataclass(frozen=True)
class _Signature:
    name: str
    parameters: tuple[str, ...]
    required: frozenset[str]


class CallGrammar:
    """The replies that call one of some tools.

    Attributes:
        start: Where a reply begins.
        tools: Names of the tools.
        signatures: All that the grammar knows of each tool: name, parameters, and those that are required.
    """

    def __init__(self, tools: Sequence[Tool], *, thinking: bool, several: bool) -> None:
        """Take the tools that may be called.

        Args:
            tools: At least one.
            thinking: The reply begins with reasoning.
            several: More than one call may be made.

        Raises:
            RequestRefusedError: A required parameter has a name that no call can have.
        """
        self._tools = [_signature(tool) for tool in tools]
        self._several = several
        self._known: dict[State, Mapping[bytes, State]] = {}
        self._call_lengths: list[int] = []
        self.start = State(Place.START if thinking else Place.CALL)
        self.tools = tuple(tool.name for tool in self._tools)
        self.signatures = [(tool.name, tool.parameters, sorted(tool.required)) for tool in self._tools]

    def tags(self, state: State) -> Mapping[str, State]:
        """Return the tags that may come, each with what follows it."""
        if state.place is Place.REASONING:
            return {THINK_END: State(Place.CALL)}
        if state.matched:
            return {}
        if state.place is Place.AFTER:
            return {TURN_END: State(Place.OVER), **({CALL: State(Place.HEAD)} if self._several else {})}
        return {
            Place.START: {THINK: State(Place.REASONING)},
            Place.CALL: {CALL: State(Place.HEAD)},
            Place.CALL_END: {CALL_END: State(Place.AFTER)},
        }.get(state.place, {})

    def advance(self, state: State, content: bytes) -> State | None:
        """Return where a reply is after some bytes of text; None where they may not come."""
        for place in range(len(content)):
            byte = content[place : place + 1]
            following = self._in_free_text(state, byte) if ending_of(state) else self._in_given_text(state, byte)
            if following is None:
                return None
            state = following
        return state

    def closing(self, state: State) -> list[bytes | str]:
        """Return a short way to the reply's end: text as bytes, tags by name. Values on the way are empty."""
        found: list[bytes | str] = []
        while state.place is not Place.OVER:
            if tags := self.tags(state):
                tag, state = next(iter(tags.items()))
                found.append(tag)
                continue
            written = state.matched
            if ending_of(state):
                text, state = _VALUE_END, replace(state, place=Place.VALUE_END, matched=b"")
            else:
                text, state = self._shortest(state)
            rest = text[len(written) :]
            if found and isinstance(found[-1], bytes):
                found[-1] += rest
            else:
                found.append(rest)
        return found

    def calls(self) -> list[list[bytes | str]]:
        """Return the shortest call of each tool, its tags included."""
        heads = [State(Place.PARAMETERS, tool) for tool in range(len(self._tools))]
        return [[CALL, _head(self.tools[state.tool]), *self.closing(state)] for state in heads]

    def left_out(self, state: State) -> list[bytes]:
        """Return the parameters that may still be given and need not, each with an empty value."""
        if state.tool < 0:
            return []
        tool = self._tools[state.tool]
        return [
            _parameter(key) + _VALUE_END + b"\n" for key in tool.parameters if key not in tool.required | state.given
        ]

    def _options(self, state: State) -> Mapping[bytes, State]:
        """Return the texts of which one has to stand here; none is the beginning of another one."""
        here = replace(state, matched=b"")
        if here not in self._known:
            self._known[here] = self._make_options(here)
        return self._known[here]

    def _make_options(self, state: State) -> Mapping[bytes, State]:
        if state.place is Place.HEAD:
            return {_head(name): State(Place.PARAMETERS, tool) for tool, name in enumerate(self.tools)}
        if state.place is Place.VALUE_END:
            return {b"\n": replace(state, place=Place.PARAMETERS)}
        if state.place is Place.AFTER and self._several:
            return {b"\n": State(Place.CALL)}
        if state.place is not Place.PARAMETERS:
            return {}
        tool = self._tools[state.tool]
        end = {_CALL_TEXT_END: State(Place.CALL_END)} if tool.required <= state.given else {}
        # The end comes first, and then what is required: this is the shortest way.
        keys = sorted(
            (key for key in tool.parameters if key not in state.given), key=lambda key: key not in tool.required
        )
        return {**end, **{_parameter(key): State(Place.VALUE, state.tool, state.given | {key}) for key in keys}}

    def _shortest(self, state: State) -> tuple[bytes, State]:
        fitting = [(text, end) for text, end in self._options(state).items() if text.startswith(state.matched)]
        if state.place is not Place.HEAD:
            return fitting[0]
        self._call_lengths = self._call_lengths or [sum(map(len, call)) for call in self.calls()]
        return min(fitting, key=lambda option: self._call_lengths[option[1].tool])

    def _in_given_text(self, state: State, byte: bytes) -> State | None:
        options, written = self._options(state), state.matched + byte
        if written in options:
            return options[written]
        return replace(state, matched=written) if any(text.startswith(written) for text in options) else None

    @staticmethod
    def _in_free_text(state: State, byte: bytes) -> State | None:
        end = ending_of(state)
        written = state.matched + byte
        if written == end:
            return replace(state, place=Place.VALUE_END, matched=b"") if state.place is Place.VALUE else None
        # Both ends have one "<", at their beginning: what does not go on can only begin anew.
        kept = written if end.startswith(written) else byte if end.startswith(byte) else b""
        return state if kept == state.matched else replace(state, matched=kept)


def ending_of(state: State) -> bytes:
    """Return the text that ends what is being written; nothing where the text is given."""
    # Reasoning ends with a tag: it is never spelled out in other tokens.
    return {Place.VALUE: _VALUE_END, Place.REASONING: THINK_END.encode()}.get(state.place, b"")


def is_name(text: str) -> bool:
    """Return whether a tool or a parameter of this name can be called or given."""
    return _NAME.fullmatch(text) is not None


def _signature(tool: Tool) -> _Signature:
    given, wanted = tool.parameters.get("properties"), tool.parameters.get("required")
    declared = [*given] if isinstance(given, Mapping) else []  # clients' schemas are not checked
    required = [key for key in wanted if isinstance(key, str)] if isinstance(wanted, list) else []
    for name in (tool.name, *required):
        if not is_name(name):
            message = f"tools: {name!r} in {tool.name!r} has characters that no call can have"
            raise RequestRefusedError(message)
    keys = dict.fromkeys((*declared, *required))
    return _Signature(tool.name, tuple(key for key in keys if is_name(key)), frozenset(required))


def _head(name: str) -> bytes:
    return f"\n<function={name}>\n".encode()


def _parameter(key: str) -> bytes:
    return f"<parameter={key}>".encode()
