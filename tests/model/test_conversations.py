"""Later turns as tokens: what the model wrote stays as it wrote it, and what was changed is rendered anew."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.model.chat import Message, Role, Tool, ToolCall
from envfarm.model.chat_reply import Reply, parse_reply
from envfarm.model.chat_template import render_conversation
from envfarm.model.server.bodies import ChatBody, conversation_of, parse_body
from envfarm.model.server.chat_answer import as_returned
from envfarm.model.server.conversations import Conversations, Past, prompt_parts
from envfarm.model.server.responses import message_json
from envfarm.model.tokenizer import Tokenizer
from envfarm.model.tokenizer_training import train_tokenizer

FIRST = (Message(role=Role.USER, content="fix it"),)
TOOLS = (Tool(name="bash"),)
NEXT = Message(role=Role.TOOL, content="done <|im_end|>")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([Path(__file__).read_text(encoding="utf-8")], 400)


def prompt_tokens(
    tokenizer: Tokenizer, messages: Sequence[Message], tools: Sequence[Tool], *, thinking: bool, past: Past | None
) -> list[int]:
    known, new = prompt_parts(tokenizer, messages, tools, thinking=thinking, past=past)
    return [*known, *tokenizer.encode_pieces(new)]


def written_byte_by_byte(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return tokens that say a text in a way in which no tokenizer would cut it."""
    alphabet = {tokenizer.token_bytes(token): token for token in range(tokenizer.size)}
    tokens: list[int] = []
    rest = text
    while rest:
        tag = next((tag for tag in tokenizer.tags if rest.startswith(tag)), None)
        tokens += [tokenizer.tags[tag]] if tag else [alphabet[bytes([byte])] for byte in rest[0].encode()]
        rest = rest[len(tag or rest[0]) :]
    return tokens


@pytest.mark.parametrize("ended", [True, False])
def test_a_later_turn_begins_with_the_very_tokens_of_before(tokenizer: Tokenizer, *, ended: bool) -> None:
    prompt = prompt_tokens(tokenizer, FIRST, TOOLS, thinking=True, past=None)
    text = "<think>hm</think>\n\n ok<tool_call>\n<function=bash>\n</function>\n</tool_call>"
    answer = written_byte_by_byte(tokenizer, text) + [tokenizer.tags["<|im_end|>"]] * ended
    message = parse_reply(text).message
    past = Past((*FIRST, message), TOOLS, (*prompt, *answer))
    found = prompt_tokens(tokenizer, [*FIRST, message, NEXT], TOOLS, thinking=True, past=past)
    assert found[: len(prompt) + len(answer)] == [*prompt, *answer]
    assert found != tokenizer.encode_pieces(render_conversation([*FIRST, message, NEXT], TOOLS))
    told = tokenizer.decode(found[len(prompt) :])
    response = "<|im_start|>tool\n<tool_response>\ndone <|im_end|>\n</tool_response>\n<|im_end|>"
    assert told == f"{text}<|im_end|>{response}<|im_start|>assistant\n"
    assert found.count(tokenizer.tags["<|im_end|>"]) == 4  # system, user, assistant, tool


@pytest.mark.parametrize("change", ["earlier message", "answer", "tools", "no new message"])
def test_another_past_is_rendered_anew(tokenizer: Tokenizer, change: str) -> None:
    prompt = prompt_tokens(tokenizer, FIRST, TOOLS, thinking=True, past=None)
    message = Message(role=Role.ASSISTANT, content="ok", reasoning="hm")
    past = Past((*FIRST, message), TOOLS, (*prompt, 1, 2, 3))
    messages, tools = [*FIRST, message, NEXT], TOOLS
    if change == "earlier message":
        messages[0] = Message(role=Role.USER, content="fix that")
    elif change == "answer":
        messages[1] = Message(role=Role.ASSISTANT, content="ok")
    elif change == "tools":
        tools = ()
    else:
        messages.pop()
    found = prompt_tokens(tokenizer, messages, tools, thinking=True, past=past)
    assert found == tokenizer.encode_pieces(render_conversation(messages, tools))


def test_the_newest_conversations_are_remembered() -> None:
    conversations = Conversations(2)
    for name in ("a", "b", "a", "c", None):
        conversations.remember(name, Past((), (), (1,)))
    assert [conversations.find(name) is not None for name in ("a", "b", "c", None)] == [True, False, True, False]


TYPES = ("integer", "number", "boolean", "array", "object", "string", "null")
VALUES = st.text(alphabet=st.characters(codec="utf-8")) | st.sampled_from(
    ["1", "1e3", "1e999", "-0", "NaN", "true", "[1,  2]", '{"b":1,"a":[]}', '"\\ud800"', '["\\ud800"]', "null", "1.50"]
)


@given(
    values=st.lists(st.tuples(st.sampled_from(TYPES), VALUES), max_size=6),
    content=st.text(alphabet=st.characters(codec="utf-8")),
    reasoning=st.text(alphabet=st.characters(codec="utf-8")),
)
def test_an_answer_that_a_client_sends_back_is_known_again(
    values: list[tuple[str, str]], content: str, reasoning: str
) -> None:
    properties = {f"{kind}{place}": {"type": kind} for place, (kind, _) in enumerate(values)}
    tools = [Tool(name="f", parameters={"type": "object", "properties": properties})]
    call = ToolCall(name="f", arguments={name: value for name, (_, value) in zip(properties, values, strict=True)})
    message = Message(role=Role.ASSISTANT, content=content, reasoning=reasoning, tool_calls=(call, call))
    sent = json.loads(json.dumps(message_json(Reply(message=message), tools, "id"), allow_nan=False))
    body = parse_body(json.dumps({"model": "m", "messages": [sent]}).encode(), ChatBody)
    assert conversation_of(body)[0] == [as_returned(message, tools)]
