"""Headers of safetensors files: written and read back, and every damage refused by the file's name."""

import json
from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.errors import CheckpointError
from envfarm.model.tensor_header import ITEM_BYTES, header_length, parse_header, render_header

SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)
NAMES = st.text(min_size=1).filter(lambda name: name != "__metadata__")
ENTRIES = st.lists(
    st.tuples(NAMES, st.sampled_from(list(ITEM_BYTES)), SHAPES),
    unique_by=lambda entry: entry[0],
    max_size=5,
)  # fmt: skip


def read(content: bytes, file_bytes: int) -> dict[str, Any]:
    length = header_length("f", content[:8], file_bytes)
    return parse_header("f", content[8 : 8 + length], file_bytes)


@given(ENTRIES)
def test_what_is_written_is_read(entries: list[tuple[str, str, tuple[int, ...]]]) -> None:
    header = render_header(entries)
    total = sum(prod(shape) * ITEM_BYTES[dtype] for _, dtype, shape in entries)
    places = read(header, len(header) + total)
    assert [(name, place.dtype, place.shape) for name, place in places.items()] == entries
    assert len(header) % 8 == 0
    end = len(header)
    for place in places.values():
        assert place.offset == end
        end += place.size_bytes
    assert end == len(header) + total


@given(ENTRIES, st.integers(-40, 40).filter(bool))
def test_a_file_of_another_length_is_refused(entries: list[tuple[str, str, tuple[int, ...]]], more: int) -> None:
    header = render_header(entries)
    total = sum(prod(shape) * ITEM_BYTES[dtype] for _, dtype, shape in entries)
    with pytest.raises(CheckpointError, match=r"^f: it is "):
        read(header, len(header) + total + more)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    header = len(content).to_bytes(8, "little") + content
    try:
        places = read(header, len(header))
    except CheckpointError as error:
        assert str(error).startswith("f: ")  # noqa: PT017 -- both ends are right
    else:
        assert all(place.size_bytes == 0 for place in places.values())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.sampled_from(["F32", "BF16", "dtype"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["dtype", "shape", "data_offsets", "w"]), inner, max_size=3
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_any_json_is_read_or_refused(document: Any) -> None:
    content = json.dumps(document).encode()
    header = len(content).to_bytes(8, "little") + content
    try:
        read(header, len(header))
    except CheckpointError as error:
        assert str(error).startswith("f: ")  # noqa: PT017 -- both ends are right


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "another type": ({"w": {**GOOD, "dtype": "I64"}}, "w is stored as 'I64'"),
    "a type that is no word": ({"w": {**GOOD, "dtype": ["F32"]}}, "w is stored as"),
    "no shape": ({"w": {"dtype": "F32", "data_offsets": [0, 8]}}, "the entry of w is malformed"),
    "a negative axis": ({"w": {**GOOD, "shape": [-2]}}, "the entry of w is malformed"),
    "a fraction": ({"w": {**GOOD, "shape": [2.0]}}, "the entry of w is malformed"),
    "a truth": ({"w": {**GOOD, "shape": [True, 2]}}, "the entry of w is malformed"),
    "three places": ({"w": {**GOOD, "data_offsets": [0, 8, 9]}}, "the entry of w is malformed"),
    "too few bytes": ({"w": {**GOOD, "data_offsets": [0, 4]}}, "w has 4 bytes"),
    "backwards": ({"w": {**GOOD, "data_offsets": [8, 0]}}, "w has -8 bytes"),
    "past the end": ({"w": GOOD, "x": {**GOOD, "data_offsets": [8, 16]}}, "it is truncated"),
    "a hole": ({"w": {**GOOD, "data_offsets": [4, 12]}}, "w overlaps the tensor before it, or leaves a hole"),
    "an overlap": ({"w": GOOD, "x": GOOD}, "overlaps the tensor before it"),
    "no entry at all": ({"w": None}, "the entry of w is malformed"),
}


@pytest.mark.parametrize(("document", "told"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_told(document: dict[str, Any], told: str) -> None:
    content = json.dumps(document).encode()
    with pytest.raises(CheckpointError, match=r"^f: ") as error:
        parse_header("f", content, 8 + len(content) + 8)
    assert told in str(error.value)


@pytest.mark.parametrize("start", [b"", b"\0" * 7, b"\xff" * 8, (1000).to_bytes(8, "little")])
def test_a_file_without_a_whole_header_is_refused(start: bytes) -> None:
    with pytest.raises(CheckpointError, match="no safetensors file"):
        header_length("f", start, 900)


def test_metadata_is_no_tensor() -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": GOOD}).encode()
    assert list(parse_header("f", header, 8 + len(header) + 8)) == ["w"]
