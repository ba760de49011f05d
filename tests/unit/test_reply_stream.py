"""A reply told in parts is, joined, what the whole reply is; nothing is told and then taken back."""

from hypothesis import given
from hypothesis import strategies as st

from envfarm.model.server.reply_stream import ReplyStream

CALL = "<tool_call>\n<function=f>\n<parameter=a>1</parameter>\n</function>\n</tool_call>"
PARTS = ["<think>", "</think>", "<think", "</thi", CALL, "<tool_call>", "</tool_call>", "<tool", "a", " ", "\n", "é"]


@given(parts=st.lists(st.sampled_from(PARTS), max_size=12), sizes=st.lists(st.integers(1, 9)), thinking=st.booleans())
def test_what_was_told_joined_is_the_reply(*, parts: list[str], sizes: list[int], thinking: bool) -> None:
    text = "".join(parts)
    stream = ReplyStream(thinking=thinking)
    reasoning = content = ""
    for size in (*sizes, len(text)):
        told = stream.push(text[:size])
        text = text[size:]
        reasoning, content = reasoning + told.reasoning, content + told.content
    told, reply = stream.finish()
    assert reasoning + told.reasoning == reply.message.reasoning
    assert content + told.content == reply.message.content


def test_text_is_told_as_soon_as_it_is_certain() -> None:
    stream = ReplyStream(thinking=True)
    told = [stream.push(text) for text in ("<thi", "nk>so", " it</", "think>", "is", " <tool", "box", CALL, "x")]
    assert [(one.reasoning, one.content) for one in told] == [
        ("", ""),
        ("so", ""),
        (" it", ""),
        ("", ""),
        ("", "is"),
        ("", " "),
        ("", "<toolbox"),
        ("", ""),
        ("", ""),
    ]
    last, reply = stream.finish()
    assert (last.content, len(reply.message.tool_calls)) == ("\nx", 1)
