"""The chat template against golden files; tags that somebody wrote stay text."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.model.chat import Message, Role, Tool, ToolCall
from envfarm.model.chat_template import TAGS, Piece, render_conversation, text_of

GOLDEN = Path(__file__).parents[1] / "data/model/chat"
TEXT = st.text(max_size=20) | st.lists(st.sampled_from([*TAGS, "\n", "a", "</parameter>"]), max_size=4).map("".join)


@pytest.mark.parametrize("case", ["agent", "plain"])
def test_a_conversation_is_rendered_as_the_golden_file_has_it(case: str) -> None:
    document = json.loads((GOLDEN / f"{case}.json").read_bytes())
    messages = [
        Message(
            role=Role(entry["role"]),
            content=entry.get("content", ""),
            reasoning=entry.get("reasoning", ""),
            tool_calls=tuple(ToolCall(**call) for call in entry.get("tool_calls", [])),
        )
        for entry in document["messages"]
    ]
    tools = [Tool(**entry) for entry in document["tools"]]
    pieces = render_conversation(messages, tools, thinking=document.get("thinking", True))
    assert text_of(pieces) == (GOLDEN / f"{case}.txt").read_text(encoding="utf-8")


MESSAGES = st.builds(Message, role=st.sampled_from(Role), content=TEXT, reasoning=TEXT).map(
    lambda message: message if message.role is Role.ASSISTANT else Message(role=message.role, content=message.content)
)


@given(st.lists(MESSAGES, max_size=5), TEXT, st.booleans())
def test_what_somebody_wrote_never_becomes_a_tag(messages: list[Message], description: str, reply: bool) -> None:  # noqa: FBT001 -- drawn
    pieces = render_conversation(messages, [Tool(name="t", description=description)], reply=reply)
    tags = [piece.text for piece in pieces if piece.is_tag]
    assert set(tags) <= set(TAGS)
    kinds = [message.role for message in messages]
    has_system = bool(kinds) and kinds[0] is Role.SYSTEM
    tool_turns = sum(
        role is Role.TOOL and (place == 0 or kinds[place - 1] is not Role.TOOL) for place, role in enumerate(kinds)
    )
    turns = 1 + sum(role is not Role.TOOL for role in kinds) + tool_turns - has_system
    assert tags.count("<|im_end|>") == turns
    assert tags.count("<|im_start|>") == turns + reply
    assert tags.count("<think>") == tags.count("</think>") == kinds.count(Role.ASSISTANT)
    assert tags.count("<tool_response>") == kinds.count(Role.TOOL)


@given(st.lists(MESSAGES, max_size=5))
def test_pieces_have_no_seams(messages: list[Message]) -> None:
    pieces = render_conversation(messages)
    assert all(piece.text for piece in pieces)
    assert not any(not a.is_tag and not b.is_tag for a, b in itertools.pairwise(pieces))


def test_turns_stand_without_a_line_break_between_them() -> None:
    pieces = render_conversation([Message(role=Role.USER, content="a"), Message(role=Role.USER, content="b")])
    assert text_of(pieces) == "<|im_start|>user\na<|im_end|><|im_start|>user\nb<|im_end|><|im_start|>assistant\n"
    assert pieces[-1] == Piece("assistant\n")


def test_past_reasoning_is_sent_back() -> None:
    past = [Message(role=Role.ASSISTANT, content=str(n), reasoning=f"because {n}") for n in range(3)]
    text = text_of(render_conversation(past, reply=False))
    assert all(f"<think>because {n}</think>{n}<|im_end|>" in text for n in range(3))
