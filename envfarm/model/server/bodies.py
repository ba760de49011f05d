"""What clients send, checked field by field. PURE.

Fields that we do not know are ignored, as OpenAI's own server does; those that would change the answer and are not
built are refused by name.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from envfarm.errors import RequestRefusedError
from envfarm.model.call_grammar import is_name
from envfarm.model.chat import Message, Role, Tool, ToolCall
from envfarm.model.chat_reply import written_arguments
from envfarm.model.server.unsupported_fields import UnsupportedFields, refuse_unsupported

Body = TypeVar("Body", bound="SharedFields")
_TOLD_CHARACTERS = 200
"""As much of a client's names as a message repeats."""


class StreamOptions(Struct):
    """Options of a streamed answer."""

    include_usage: bool = False


class SharedFields(UnsupportedFields, kw_only=True):
    """What both kinds of completions have; absent fields are None where another field decides."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    prompt_cache_key: str | None = None
    return_routed_experts: bool = False
    routed_experts_start_len: int = 0
    return_token_ids: bool = False
    ignore_eos: bool = False

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """Where the answer's text ends."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class CalledFunction(Struct):
    """A call's function; arguments are JSON."""

    name: str
    arguments: str = "{}"


class GivenCall(Struct):
    """A call in an earlier answer."""

    function: CalledFunction
    id: str = ""
    type: Literal["function"] = "function"


class ContentPart(Struct):
    """A part of a message; only text can be read."""

    type: str
    text: str = ""


class GivenMessage(Struct):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    reasoning_content: str | None = None
    tool_calls: list[GivenCall] | None = None


class DeclaredFunction(Struct):
    """A function that may be called."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class DeclaredTool(Struct):
    """A tool that may be called."""

    function: DeclaredFunction
    type: Literal["function"] = "function"


class NamedFunction(Struct):
    """The function that has to be called."""

    name: str


class NamedTool(Struct):
    """The tool that has to be called."""

    function: NamedFunction
    type: Literal["function"] = "function"


class TemplateOptions(Struct):
    """Options of the chat template, by the name that SGLang and vLLM give them."""

    enable_thinking: bool = True


class ChatBody(SharedFields, kw_only=True):
    """The body of /v1/chat/completions."""

    messages: list[GivenMessage]
    tools: list[DeclaredTool] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    chat_template_kwargs: TemplateOptions | None = None


class CompletionBody(SharedFields, kw_only=True):
    """The body of /v1/completions."""

    prompt: str | list[int]
    logprobs: int | None = None


def parse_body(content: bytes, kind: type[Body]) -> Body:
    """Return what a client sent.

    Raises:
        RequestRefusedError: It is not JSON, a field is missing or of a wrong type, or asks for what is not built.
    """
    try:
        body = msgspec.json.decode(content, type=kind)
        refuse_unsupported(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # a ValidationError is one of these
        message = f"the body cannot be read: {error}"
        raise RequestRefusedError(message) from error
    return body


def conversation_of(body: ChatBody) -> tuple[list[Message], list[Tool]]:
    """Return messages and tools.

    Raises:
        RequestRefusedError: There is no message, a part is no text, a call's arguments are no JSON object, or a tool
            has a name that cannot be called or that another one has.
    """
    if not body.messages:
        message = "messages: there is none"
        raise RequestRefusedError(message)
    messages = [_message(place, given) for place, given in enumerate(body.messages)]
    declared = _tools(body.tools or [])
    return messages, [] if body.tool_choice == "none" else declared


def tools_to_call(body: ChatBody, tools: Sequence[Tool]) -> list[Tool]:
    """Return the tools of which one has to be called; nothing where the model may choose not to.

    Raises:
        RequestRefusedError: The tool that is asked for is not declared, or none is.
    """
    if body.tool_choice in (None, "auto", "none"):
        return []
    if not tools:
        message = "tool_choice: a call is asked for, and no tools are declared"
        raise RequestRefusedError(message)
    if not isinstance(body.tool_choice, NamedTool):
        return list(tools)
    name = body.tool_choice.function.name
    found = [tool for tool in tools if tool.name == name]
    if not found:
        message = (
            f"tool_choice: {_short(name)} is not one of the tools: {_short(', '.join(tool.name for tool in tools))}"
        )
        raise RequestRefusedError(message)
    return found


def _tools(declared: Sequence[DeclaredTool]) -> list[Tool]:
    names: set[str] = set()
    for place, tool in enumerate(declared):
        name = tool.function.name
        if not is_name(name) or name in names:
            complaint = "is declared twice" if name in names else "is empty, or has blanks or angle brackets"
            message = f"tools[{place}]: the name {_short(name)} {complaint}"
            raise RequestRefusedError(message)
        names.add(name)
    return [
        Tool(
            name=tool.function.name,
            description=tool.function.description or "",
            parameters=tool.function.parameters or {},
        )
        for tool in declared
    ]


def _short(text: str) -> str:
    return repr(text if len(text) <= _TOLD_CHARACTERS else f"{text[:_TOLD_CHARACTERS]}...")


def _message(place: int, given: GivenMessage) -> Message:
    role = Role.SYSTEM if given.role == "developer" else Role(given.role)
    if role is Role.SYSTEM and place:
        message = f"messages[{place}]: a system message has to be the first one"
        raise RequestRefusedError(message)
    calls = given.tool_calls or ()
    return Message(
        role=role,
        content=_text(place, given.content),
        reasoning=given.reasoning_content or "",
        tool_calls=tuple(_call(place, call.function) for call in calls),
    )


def _text(place: int, content: str | list[ContentPart] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for part in content:
        if part.type != "text":
            message = f"messages[{place}]: a part of type {part.type!r} cannot be read"
            raise RequestRefusedError(message)
    return "".join(part.text for part in content)


def _call(place: int, function: CalledFunction) -> ToolCall:
    try:
        arguments = msgspec.json.decode(function.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        message = f"messages[{place}]: the arguments of {function.name} are no JSON object: {error}"
        raise RequestRefusedError(message) from error
    return ToolCall(name=function.name, arguments=written_arguments(arguments))
