"""An answer's text comes in whole characters, and never holds a stop text, wherever tokens are cut."""

from hypothesis import given
from hypothesis import strategies as st

from envfarm.model.engine.answer_text import AnswerText


def cut(content: bytes, sizes: list[int]) -> list[bytes]:
    parts = []
    for size in sizes:
        parts.append(content[:size])
        content = content[size:]
    return [*parts, content]


@given(
    text=st.text(alphabet="abé漢🎉", max_size=40),
    stops=st.lists(st.text(alphabet="abé漢🎉", min_size=1, max_size=4), max_size=3),
    sizes=st.lists(st.integers(0, 5), max_size=40),
)
def test_the_text_ends_before_the_first_stop_text(text: str, stops: list[str], sizes: list[int]) -> None:
    answer = AnswerText(stops)
    found = ""
    for part in cut(text.encode(), sizes):
        found += answer.push(part)
        assert not any(stop in found for stop in stops)
        assert text.startswith(found)
    found += answer.finish()
    assert answer.stopped == any(stop in text for stop in stops)
    assert not any(stop in found for stop in stops)
    if not answer.stopped:
        assert found == text
    elif len(stops) == 1:
        assert found == text[: text.index(stops[0])]


def test_text_that_cannot_become_a_stop_text_comes_at_once() -> None:
    answer = AnswerText(["</end>"])
    assert [answer.push(part) for part in (b"a", b"b<", b"/e", b"x", "é".encode()[:1], "é".encode()[1:])] == [
        "a",
        "b",
        "",
        "</ex",
        "",
        "é",
    ]


def test_bytes_that_are_no_text_become_a_replacement() -> None:
    answer = AnswerText()
    assert answer.push(b"a\xff\xc3") + answer.finish() == "a\ufffd\ufffd"


def test_an_unfinished_stop_text_is_part_of_the_answer() -> None:
    answer = AnswerText(["stop"])
    assert answer.push(b"a sto") == "a "
    assert answer.finish() == "sto"
