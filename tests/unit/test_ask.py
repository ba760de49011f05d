"""Values leave a box as plain data, whatever they are made to pretend."""

import ast
import collections
import copy
import enum
import importlib.util
import json
import math
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import envfarm_verifiers
from envfarm_verifiers.plain_value import decode_value

PROGRAMS = Path(str(envfarm_verifiers.__file__)).parent / "box_programs"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_under_test", PROGRAMS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ask = load("ask")


def boom(*_: object, **__: object) -> Any:
    message = "a subclass's own method was run"
    raise AssertionError(message)


_METHODS = "eq ne lt str repr iter len getitem index int float hash bool contains format bytes complex getattribute"
HOSTILE = {f"__{name}__": boom for name in _METHODS.split()}
HOSTILE |= dict.fromkeys(("items", "keys", "values", "hex", "real", "encode"), boom)
HOSTILE["__class__"] = property(lambda _: int)


def hostile(base: type, *arguments: Any) -> Any:
    return type("Hostile", (base,), HOSTILE)(*arguments)


class Color(enum.IntEnum):
    RED = 1


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 -- the form that libraries use
PLAIN: tuple[tuple[Any, list[Any]], ...] = (
    (None, ["n"]),
    (True, ["b", True]),
    (False, ["b", False]),
    (1, ["i", "1"]),
    (-5, ["i", "-5"]),
    (1.5, ["f", (1.5).hex()]),
    (-0.0, ["f", "-0x0.0p+0"]),
    (math.inf, ["f", "inf"]),
    (1 + 2j, ["c", (1.0).hex(), (2.0).hex()]),
    ("a\udc80\n", ["s", "a\udc80\n"]),
    (b"\x00\xff", ["y", "00ff"]),
    ([1, "a"], ["l", [["i", "1"], ["s", "a"]]]),
    ((), ["t", []]),
    ({"a": None}, ["d", [[["s", "a"], ["n"]]]]),
    ({2, 10}, ["S", [["i", "10"], ["i", "2"]]]),
    (frozenset({"b", "a"}), ["S", [["s", "a"], ["s", "b"]]]),
    (Color.RED, ["i", "1"]),
    (Point(1, 2), ["t", [["i", "1"], ["i", "2"]]]),
    (collections.OrderedDict(a=1), ["d", [[["s", "a"], ["i", "1"]]]]),
    (collections.Counter("aa"), ["d", [[["s", "a"], ["i", "2"]]]]),
    (hostile(str, "abc"), ["s", "abc"]),
    (hostile(int, 7), ["i", "7"]),
    (hostile(float, 0.5), ["f", (0.5).hex()]),
    (hostile(complex, 1), ["c", (1.0).hex(), (0.0).hex()]),
    (hostile(bytes, b"ab"), ["y", "6162"]),
    (hostile(list, [1]), ["l", [["i", "1"]]]),
    (hostile(tuple, (1,)), ["t", [["i", "1"]]]),
    (hostile(dict, {"a": 1}), ["d", [[["s", "a"], ["i", "1"]]]]),
    (hostile(set, {1}), ["S", [["i", "1"]]]),
    (hostile(frozenset, {1}), ["S", [["i", "1"]]]),
    ([hostile(str, "x")], ["l", [["s", "x"]]]),
)


@pytest.mark.parametrize("number", range(len(PLAIN)))
def test_plain_data_goes_out_by_its_base_value(number: int) -> None:
    value, encoded = PLAIN[number]
    found = ask.encode(value)
    assert found == encoded
    assert json.loads(ask.encoded_text(found)) == encoded
    assert ask.encoded_text(found).isascii()
    assert all(type(part) in {list, str, bool} for part in parts(found))


def parts(encoded: Any) -> Iterator[Any]:
    yield encoded
    if isinstance(encoded, list):
        for part in encoded:
            yield from parts(part)


class Liar:
    __class__ = int  # type: ignore[assignment]

    def __index__(self) -> int:
        return 1


def cycle() -> list[Any]:
    found: list[Any] = []
    found.append([found, found])
    return found


def nested(depth: int) -> Any:
    found: Any = 0
    for _ in range(depth):
        found = [found]
    return found


def doubled() -> Any:
    found: Any = "xxxxxxxx"
    for _ in range(49):
        found = [found, found]
    return found


NOT_PLAIN = {
    "object": object(),
    "type": int,
    "function": boom,
    "lying class": Liar(),
    "object inside": [1, {"a": object()}],
    "bytearray": bytearray(b"x"),
    "generator": (number for number in ()),
    "cycle": cycle(),
    "deep": nested(52),
    "long text": "x" * (1 << 20),
    "escaped text": "\x00" * (1 << 18),
    "many items": [0] * (1 << 18),
    "the same twice, often": doubled(),
    "huge number": 1 << 40000,
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_is_not_plain_is_told_as_none(name: str) -> None:
    assert ask.encode(NOT_PLAIN[name]) is None


def test_limits_are_as_told() -> None:
    assert ask.encode(nested(50)) is not None
    assert ask.encode(nested(51)) is None
    assert ask.encode("x" * ((1 << 20) - 20)) is not None
    same = [1]
    assert ask.encode([same, same]) is not None


def test_long_numbers_go_out_whatever_the_limit_of_digits_is() -> None:
    before = sys.get_int_max_str_digits()
    number = -(7**8000)
    sys.set_int_max_str_digits(0)
    text = str(number)
    try:
        sys.set_int_max_str_digits(640)
        assert ask.encode(number) == ["i", text]
        assert ask.encode(10**1200) == ["i", "1" + "0" * 1200]
    finally:
        sys.set_int_max_str_digits(before)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.binary()
TEXTS = LEAVES | st.text(st.characters(exclude_categories=()))
VALUES = st.recursive(
    TEXTS,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(TEXTS, inner)
        | st.sets(TEXTS, min_size=1)
        | st.dictionaries(TEXTS.map(lambda key: (key,)), inner)
    ),
    max_leaves=30,
)


@given(VALUES)
def test_what_is_read_outside_is_what_the_literal_says(value: Any) -> None:
    text = ask.encoded_text(ask.encode(value))
    found = decode_value(json.loads(text))
    expected = ast.literal_eval(repr(value))
    assert found == expected
    assert repr(type(found)) == repr(type(expected)) or isinstance(expected, set)


def functions() -> tuple[Any, Any, list[dict[str, Any]]]:
    records: list[dict[str, Any]] = []
    asking, token = ask.make_functions(records.append, lambda: "test_x", lambda frame: ["a.py", frame.f_lineno])
    return asking, token, records


def test_asking_tells_nothing_and_sends_the_value() -> None:
    asking, token, records = functions()
    expected = token(4)
    assert asking(1, hostile(str, "a")) is True
    assert asking(2, object(), expected) is True
    assert asking("2", None, "no token") is True
    assert [[record[key] for key in ("kind", "id", "check", "token", "value", "type")] for record in records] == [
        ["ask", "test_x", 1, None, ["s", "a"], "Hostile"],
        ["ask", "test_x", 2, 4, None, "object"],
        ["ask", "test_x", None, None, ["n"], "NoneType"],
    ]
    assert {record["at"][0] for record in records} == {"a.py"}


def test_a_token_says_nothing_and_equals_nothing() -> None:
    _, token, _ = functions()
    one, other = token(12345), token(12345)
    assert one != one  # noqa: PLR0124 -- that is the point
    assert not one == other  # noqa: SIM201 -- as above
    assert "12345" not in repr(one) + str(one) + str(dir(one))
    assert len({one, other}) == 2
    assert copy.copy(one) is one
    assert copy.deepcopy([one])[0] is one
    with pytest.raises(TypeError):
        pickle.dumps(one)
