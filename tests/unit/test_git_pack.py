"""Packs and indexes of ours against what zlib and the formats say."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.formats.git_pack import GitObject, build_index, build_pack, deflate_stored


@given(st.binary(max_size=200_000))
def test_stored_blocks_inflate_to_what_went_in(data: bytes) -> None:
    assert zlib.decompress(deflate_stored(data)) == data


def test_more_than_one_stored_block_inflates() -> None:
    data = bytes(range(256)) * 1000
    assert zlib.decompress(deflate_stored(data)) == data


def test_the_same_objects_give_the_same_bytes_and_the_trailer_is_their_digest() -> None:
    objects = [GitObject(f"{n:040x}", "blob", bytes([n]) * n) for n in range(40)]
    assert build_pack(objects) == build_pack(list(objects))
    name, pack, index = build_pack(objects)
    assert pack[-20:] != bytes(20)
    assert index[-40:-20] == pack[-20:]
    assert len(name) == 40


@pytest.mark.parametrize(
    "objects",
    [[GitObject("ab" * 20, "blob", b""), GitObject("ab" * 20, "blob", b"")], [GitObject("ab" * 20, "x", b"")]],
)
def test_a_doubled_or_unknown_object_is_refused(objects: list[GitObject]) -> None:
    with pytest.raises(ValueError, match=r"twice|unknown"):
        build_pack(objects)


def test_index_entries_are_sorted_and_padded_to_eight_bytes() -> None:
    index = build_index({b"b": (0o100644, "0" * 40), b"a/long/path": (0o100755, "1" * 40)})
    assert index.index(b"a/long/path") < index.index(b"b\0")
    assert (len(index) - 20 - 12) % 8 == 0
