"""Python tests altered so that they must fail: what is exchanged for what, in which order, and what is left alone."""

import builtins
import re
from collections.abc import Callable

import pytest

from envfarm.records.trust import STRONG_KINDS, TwinKind
from task_miner.languages.guards import ProposedTwin
from task_miner.languages.python_guards import propose_guards


def twins_of(new: str, old: str | None = None, name: str = "test_a") -> tuple[ProposedTwin, ...]:
    made = propose_guards("tests/test_a.py", None if old is None else old.encode(), new.encode(), {name})
    return made[0].twins if made else ()


def altered(new: str, twin: ProposedTwin) -> str:
    content = new.encode()
    for edit in sorted(twin.edits, key=lambda found: found.start, reverse=True):
        content = content[: edit.start] + edit.text.encode() + content[edit.end :]
    return content.decode()


def texts(new: str, *kinds: TwinKind, old: str | None = None) -> list[str]:
    return [altered(new, twin) for twin in twins_of(new, old) if twin.kind in kinds]


def strong(new: str, old: str | None = None) -> list[str]:
    return texts(new, TwinKind.LITERAL, TwinKind.EXCEPTION, old=old)


def body(*lines: str) -> str:
    return "def test_a(self, x):\n" + "".join(f"    {line}\n" for line in lines)


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("assert f(x) == 'r'", "assert f(x) == 's'"),
        ("assert f(x) == 7", "assert f(x) == 8"),
        ("assert f(x) == 0x1f", "assert f(x) == 0x20"),
        ("assert f(x) == 1.5", "assert f(x) == 2.5"),
        ("assert f(x) is True", "assert f(x) is False"),
        ("assert f(x) == b'a'", "assert f(x) == b'b'"),
        ("assert f(x) == ''", "assert f(x) == 'a'"),
        ("assert f(x) == []", "assert f(x) == [1]"),
        ("assert f(x) == ()", "assert f(x) == (1,)"),
        ("assert f(x) == {}", "assert f(x) == {1: 1}"),
        ("assert f(x) == '--'", "assert f(x) == '_-'"),
        ("assert f(x) == 'Z9'", "assert f(x) == 'A9'"),
        ("assert f(x) == '2 %s \\n{}'", "assert f(x) == '3 %s \\n{}'"),
        ("assert f(x) == r'\\d2'", "assert f(x) == r'\\d3'"),
        ("assert f(x) == 'é'", "assert f(x) == 'e'"),
        ("assert f(x) == f'{x} r {{'", "assert f(x) == f'{x} s {{'"),
        ("assert f(x) == ('4'  # 5\n        '')", "assert f(x) == ('5'  # 5\n        '')"),
        ("assert 'b' in f(x)", "assert 'c' in f(x)"),
        ("self.assertEqual(f(x), 7)", "self.assertEqual(f(x), 8)"),
        ("check_total(f(x), 7)", "check_total(f(x), 8)"),
        ("y = 7\n    assert f(x) == y", "y = 8\n    assert f(x) == y"),
        ("assert f(7)", "assert f(8)"),
        ("f(7)", "f(8)"),
    ],
)
def test_a_literal_without_another_of_its_kind_is_changed_by_itself(line: str, becomes: str) -> None:
    assert body(becomes) in strong(body(line))


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("assert f(x) == 'red blue'", {"assert f(x) == 'blue blue'", "assert f(x) == 'red red'"}),
        ("assert f(x) == 'red Blue'", {"assert f(x) == 'Blue Blue'", "assert f(x) == 'red red'"}),
        ("assert f(x) == [3, 4]", {"assert f(x) == [4, 4]", "assert f(x) == [3, 3]"}),
        ("assert f(x) == '3 or 4'", {"assert f(x) == '4 or 4'", "assert f(x) == '3 or 3'"}),
        ("assert f(x) == ['a', b'c', 'b', b'd']", {"assert f(x) == ['b', b'c', 'b', b'd']"}),
        ("y = f('pink')\n    assert y == 'red'", {"y = f('pink')\n    assert y == 'pink'"}),
    ],
)
def test_a_word_or_number_is_exchanged_for_another_of_the_same_test(line: str, becomes: set[str]) -> None:
    assert {body(text) for text in becomes} <= set(strong(body(line)))


def test_what_checks_expect_comes_before_variables_and_what_is_looked_at() -> None:
    code = body("text = 'one two'", "y = f('three', 4)", "assert y == text", "assert g('five') == 'six seven'")
    first = strong(code)
    assert "'six seven'" not in first[0]
    assert "'one two'" in first[0]
    assert "'one two'" not in first[3]
    assert all("'three', 4" in text for text in first[:2])


def test_only_new_lines_are_altered_by_strong_twins() -> None:
    old = body("assert f(x) == 'red'", "assert f(x) == 'blue'")
    new = body("assert f(x) == 'red'", "assert f(x) == 'green'", "assert f(x) == 'blue'")
    made = [twin for twin in twins_of(new, old) if twin.kind in STRONG_KINDS]
    assert {twin.line for twin in made} == {3}
    raising = body("with pytest.raises(KeyError):\n        f(x)")
    assert strong(raising.replace("f(x)", "g(y)"), raising) == []
    assert [twin.kind for twin in twins_of(old, old)] == [TwinKind.INVERTED, TwinKind.TAIL]


def test_lines_that_the_base_has_elsewhere_wait() -> None:
    old = "def test_b(x):\n    assert f(x) == 'red'\n"
    new = old + "\n\n" + body("assert f(x) == 'red'", "assert f(x) == 'green'", "assert f(x) == 'red'")
    assert twins_of(new, old)[0].line == 7


SETS = """\
@pytest.mark.parametrize(
    "value, expected",
    [
        (1, "one"),
        (2, "two"),
        (3, None),
    ],
    ids=["x", "y", "z"],
)
def test_a(value, expected):
    assert spell(value) == expected
"""


def test_all_parameter_sets_are_altered_at_once_and_no_id() -> None:
    twin = twins_of(SETS)[0]
    assert (twin.kind, twin.sets, twin.line, len(twin.edits)) == (TwinKind.LITERAL, (0, 1, 2), 4, 3)
    text = altered(SETS, twin)
    assert '(1, "two"),' in text
    assert '(2, "one"),' in text
    assert "(3, None)" not in text
    assert all('ids=["x", "y", "z"]' in altered(SETS, made) for made in twins_of(SETS))


def test_a_set_that_the_base_has_is_not_altered() -> None:
    twin = twins_of(SETS, SETS.replace('        (2, "two"),\n', ""))[0]
    assert (twin.sets, twin.line) == ((1,), 5)


def related(one: str, other: str) -> bool:
    first, second = getattr(builtins, one), getattr(builtins, other)
    return issubclass(first, second) or issubclass(second, first)


@pytest.mark.parametrize("name", ["ValueError", "KeyError", "LookupError", "OSError", "UnicodeError", "RuntimeError"])
@pytest.mark.parametrize("form", ["pytest.raises({})", "self.assertRaises({})", "raises(expected_exception={})"])
def test_an_exception_is_exchanged_for_one_that_is_neither_base_nor_child(name: str, form: str) -> None:
    code = body(f"with {form.format(name)}:\n        f(x)")
    made = [twin for twin in twins_of(code) if twin.kind is TwinKind.EXCEPTION]
    assert len({twin.edits[0].text for twin in made}) == 3
    assert all(not related(name, twin.edits[0].text) for twin in made)
    assert all(altered(code, twin) == body(f"with {form.format(twin.edits[0].text)}:\n        f(x)") for twin in made)


@pytest.mark.parametrize(
    ("was", "fits"),
    [
        ("pytest.raises(exceptions.DecodeError)", lambda text: text.endswith("Error")),
        ("pytest.raises((KeyError, TypeError))", lambda text: text not in {"KeyError", "TypeError", "IndexError"}),
        ("pytest.warns(DeprecationWarning)", lambda text: text.endswith("Warning") and text != "DeprecationWarning"),
    ],
)
def test_classes_of_libraries_several_and_warnings_are_exchanged(was: str, fits: Callable[[str], bool]) -> None:
    made = [twin for twin in twins_of(body(f"with {was}:\n        f(x)")) if twin.kind is TwinKind.EXCEPTION]
    assert made
    assert all(fits(twin.edits[0].text) for twin in made)


def test_exceptions_of_parameter_sets_are_exchanged_together() -> None:
    code = (
        '@pytest.mark.parametrize("v, error", [(1, ValueError), (2, lib.Error)])\n'
        "def test_a(v, error):\n    with pytest.raises(error):\n        f(v)\n"
    )
    twin = next(twin for twin in twins_of(code) if twin.kind is TwinKind.EXCEPTION)
    assert (twin.sets, len(twin.edits)) == ((0, 1), 2)


def test_the_message_of_an_exception_is_a_check() -> None:
    code = body("with pytest.raises(ValueError, match='bad value'):\n        f(x, 'good')")
    assert any("match='bad bad'" in text or "match='value value'" in text for text in strong(code)[:2])
    assert strong(code)[1].count("ValueError") == 0


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("y = f(x)\n    z = 0\n    assert y == a.b", None),
        ("y = f(x)\n    z = g(x)\n    assert y == z", "assert y == x"),
        ("y = f(x)\n    zz = g(x)\n    assert y == zz", "assert y == x"),
        ("y = f(x)\n    zzz = g(x)\n    assert y == zzz", "assert y == x"),
        ("yy = f(x)\n    z = g(x)\n    assert yy == z", "assert yy == x"),
        ("w = h(x)\n    y = f(x)\n    z = g(x)\n    assert y == z", "assert y == (w|x)"),
        ("assert isinstance(f(x), Key)", r"isinstance\(f\(x\), (dict|list|str|int|tuple|bytes|float)\)"),
        ("self.assertIsInstance(f(x), dict)", r"Instance\(f\(x\), (list|str|int|tuple|bytes|float)\)"),
    ],
)
def test_names_are_exchanged_where_checks_have_no_literal(line: str, becomes: str | None) -> None:
    made = texts(body(line), TwinKind.LITERAL)
    if becomes is not None:
        assert any(re.search(becomes, text) for text in made)
    assert all("assert y == y" not in text for text in made)


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("assert x == y", "assert x != y"),
        ("assert x != y", "assert x == y"),
        ("assert x in y", "assert x not in y"),
        ("assert x not  in y", "assert x in y"),
        ("assert x is y", "assert x is not y"),
        ("assert x is not y", "assert x is y"),
        ("assert x.a()", "assert not x.a()"),
        ("assert not x", "assert x"),
        ("assert not (x or y)", "assert not (not (x or y))"),
        ("assert x and y", "assert not (x and y)"),
        ("assert (x or y)", "assert (not (x or y))"),
        ("assert x < y", "assert not (x < y)"),
        ("assert (x) == (y), z", "assert (x) != (y), z"),
        ("assert x < y < z", "assert not (x < y < z)"),
        ("self.assertTrue(x)", "self.assertFalse(x)"),
        ("self.assertEqual(x, y)", "self.assertNotEqual(x, y)"),
        ("self.assertIsNone(x)", "self.assertIsNotNone(x)"),
    ],
)
def test_a_check_is_turned_round(line: str, becomes: str) -> None:
    assert texts(body(line), TwinKind.INVERTED) == [body(becomes)]


@pytest.mark.parametrize(
    ("lines", "becomes"),
    [
        (["f(x)", "g(x)  # why"], ["f(x)", "g(x); assert False  # why"]),
        (["f(", "    x)"], ["f(", "    x); assert False"]),
        (["f(x)", "for y in x:", "    g(y)"], ["f(x); assert False", "for y in x:", "    g(y)"]),
        (["with a:", "    f(x)"], ["with a:", "    f(x); assert False"]),
        (["f(x)", "with raises(E):", "    g(x)"], ["f(x); assert False", "with raises(E):", "    g(x)"]),
        (["f(x)", "return"], ["f(x); assert False", "return"]),
        (["for y in x:", "    g(y)"], ["for y in x:", "    g(y); assert False"]),
    ],
)
def test_a_failing_check_is_added_at_the_end(lines: list[str], becomes: list[str]) -> None:
    assert texts(body(*lines), TwinKind.TAIL) == [body(*becomes)]


def test_there_are_at_most_six_strong_twins_and_two_weak_ones_and_the_strong_come_first() -> None:
    code = body(*(f"assert f({n}) == 'red{n} {n} blue'" for n in range(9)), "with raises(KeyError):\n        f('a')")
    kinds = [twin.kind for twin in twins_of(code)]
    assert [kind in STRONG_KINDS for kind in kinds] == [True] * 6 + [False] * 2
    assert kinds[:2] == [TwinKind.LITERAL, TwinKind.EXCEPTION]
    assert kinds[6:] == [TwinKind.INVERTED, TwinKind.TAIL]
    assert len({twin.line for twin in twins_of(code)[:6] if twin.kind is TwinKind.LITERAL}) >= 2


def test_alterations_are_spread_over_the_places_of_tests_that_read_alike() -> None:
    lines = [f"assert f({n}) == 'word{n}'" for n in range(8)]
    codes = [body(*lines).replace("test_a", name) for name in ("test_b", "test_c", "test_d", "test_e", "test_f")]
    first = [twins_of(code, name=f"test_{letter}")[0].line for code, letter in zip(codes, "bcdef", strict=True)]
    assert len(set(first)) > 1
