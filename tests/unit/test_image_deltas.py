"""Deltas make the target out of the base, and a packed history gives back all of its objects."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.formats.git_pack import Delta, GitObject, build_pack, read_whole_pack
from envfarm.images.delta import make_delta
from envfarm.images.history_deltas import pack_with_deltas

LINES = st.lists(
    st.sampled_from([b"alpha beta gamma\n", b"x\n", b"a longer line of text, now and then\n", b"\n", b"tail"])
)
TEXT = LINES.map(b"".join) | st.binary(max_size=300)


def applied(base: bytes, delta: bytes) -> bytes:
    """Apply a delta as gitformat-pack(5) says; written apart from what makes them."""
    sizes, position = [], 0
    for _ in range(2):
        size = shift = 0
        while True:
            byte = delta[position]
            position += 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        sizes.append(size)
    assert sizes[0] == len(base)
    out = b""
    while position < len(delta):
        code = delta[position]
        position += 1
        if code & 128:
            numbers = [0] * 7
            for bit in range(7):
                if code >> bit & 1:
                    numbers[bit] = delta[position]
                    position += 1
            start = int.from_bytes(bytes(numbers[:4]), "little")
            size = int.from_bytes(bytes(numbers[4:]), "little") or 0x10000
            assert start + size <= len(base)
            out += base[start : start + size]
        else:
            assert code
            out += delta[position : position + code]
            position += code
    assert len(out) == sizes[1]
    return out


@given(TEXT, TEXT)
def test_a_delta_makes_the_target_out_of_the_base(base: bytes, target: bytes) -> None:
    assert applied(base, make_delta(base, target)) == target


def test_a_changed_line_of_a_large_file_costs_a_few_bytes() -> None:
    base = b"".join(b"line %d of a file\n" % number for number in range(20_000))
    target = base.replace(b"line 777 of", b"line 778 of") + b"more\n"
    delta = make_delta(base, target)
    assert applied(base, delta) == target
    assert len(delta) < 100


def test_moved_lines_are_copied() -> None:
    lines = [b"the line with number %d, long enough\n" % number for number in range(100)]
    base, target = b"".join(lines), b"".join([*lines[50:], *lines[:50]])
    delta = make_delta(base, target)
    assert applied(base, delta) == target
    assert len(delta) < 60


def object_of(kind: str, content: bytes) -> GitObject:
    return GitObject(hashlib.sha1(f"{kind} {len(content)}".encode() + b"\0" + content).hexdigest(), kind, content)  # noqa: S324


def history_of(versions: list[bytes]) -> list[GitObject]:
    """Return the objects of a history with one file in a folder, newest first."""
    objects: dict[str, GitObject] = {}
    for content in versions:
        blob = object_of("blob", content)
        folder = object_of("tree", b"100644 file.txt\0" + bytes.fromhex(blob.oid))
        root = object_of("tree", b"40000 folder\0" + bytes.fromhex(folder.oid))
        commit = object_of("commit", f"tree {root.oid}\n\nversion {len(objects)}".encode())
        objects |= {item.oid: item for item in (commit, root, folder, blob)}
    return list(objects.values())


@given(st.lists(TEXT, min_size=1, max_size=6))
def test_a_packed_history_has_each_object_once_and_bases_come_first(versions: list[bytes]) -> None:
    objects = history_of(versions)
    ordered, deltas = pack_with_deltas(objects)
    assert sorted(item.oid for item in ordered) == sorted(item.oid for item in objects)
    places = {item.oid: place for place, item in enumerate(ordered)}
    contents = {item.oid: item.content for item in objects}
    for oid, delta in deltas.items():
        assert places[delta.base] < places[oid]
        assert applied(contents[delta.base], delta.content) == contents[oid]
    build_pack(ordered, deltas)


def test_chains_of_deltas_are_bounded() -> None:
    text = b"".join(b"line %d of the first version\n" % number for number in range(200))
    versions = [text.replace(b"line 7 ", b"line %d " % number) for number in range(1000, 1180)]
    _, deltas = pack_with_deltas(history_of(versions))
    assert len(deltas) > 170
    for oid in deltas:
        depth, at = 0, oid
        while at in deltas:
            depth, at = depth + 1, deltas[at].base
        assert depth <= 50


def test_a_pack_of_whole_objects_is_read_back_in_its_order() -> None:
    objects = [object_of("blob", b"x" * size) for size in (0, 1, 100, 70_000, 200_000)] + [object_of("tree", b"")]
    assert read_whole_pack(build_pack(objects)[1]) == objects


def test_a_pack_with_deltas_or_damage_is_no_whole_pack() -> None:
    objects = [object_of("blob", b"x" * 100), object_of("blob", b"x" * 101)]
    delta = Delta(objects[0].oid, make_delta(objects[0].content, objects[1].content))
    pack = build_pack(objects)[1]
    for bad in (build_pack(objects, {objects[1].oid: delta})[1], pack[:-1], pack[:40] + b"y" + pack[41:], b"", b"PACK"):
        with pytest.raises(ValueError, match="pack"):
            read_whole_pack(bad)


def test_a_delta_before_its_base_is_refused() -> None:
    objects = [object_of("blob", b"x" * 100), object_of("blob", b"x" * 101)]
    with pytest.raises(ValueError, match="before its base"):
        build_pack(objects, {objects[0].oid: Delta(objects[1].oid, b"")})
