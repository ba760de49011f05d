"""Mutants of a fix: each operator, where none is made, and what holds for all of them."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_miner.languages.python_mutants import make_mutants


def mutants(new: str, old: str = "", limit: int = 50) -> dict[tuple[int, str], str]:
    made = make_mutants("a.py", old.encode(), new.encode(), limit=limit)
    return {(mutant.line, mutant.operator): mutant.content.decode() for mutant in made}


@pytest.mark.parametrize(
    ("code", "operator", "expected"),
    [
        ("if a:\n    pass\n", "negate_condition", "if (not a):\n    pass\n"),
        ("while a:\n    pass\n", "negate_condition", "while (not a):\n    pass\n"),
        ("x(1 if a else b)\n", "negate_condition", "x(1 if (not a) else b)\n"),
        ("x(a == b)\n", "swap_comparison", "x((a != b))\n"),
        ("x(a is not b)\n", "swap_comparison", "x((a is b))\n"),
        ("x(a in b)\n", "swap_comparison", "x((a not in b))\n"),
        ("x(a < b)\n", "move_boundary", "x((a <= b))\n"),
        ("x(a >= b)\n", "move_boundary", "x((a > b))\n"),
        ("x(a + b)\n", "swap_arithmetic", "x((a - b))\n"),
        ("x(a // b)\n", "swap_arithmetic", "x((a * b))\n"),
        ("x(a and b)\n", "swap_boolean", "x((a or b))\n"),
        ("x(a or b)\n", "swap_boolean", "x((a and b))\n"),
        ("x(3)\n", "change_constant", "x((4))\n"),
        ("x('a')\n", "change_constant", "x(('ax'))\n"),
        ("x(b'a')\n", "change_constant", "x((b'ax'))\n"),
        ("x(True)\n", "change_constant", "x((False))\n"),
        ("x = a\n", "drop_statement", "pass\n"),
        ("x += a\n", "drop_statement", "pass\n"),
        ("del x\n", "drop_statement", "pass\n"),
        ("raise a\n", "drop_statement", "pass\n"),
        ("x()\n", "drop_statement", "pass\n"),
        ("def f():\n    return a\n", "return_none", "def f():\n    return None\n"),
        ("s = 'é'; x(a == b)\n", "swap_comparison", "s = 'é'; x((a != b))\n"),
        ("\ufeffx(a == b)\n", "swap_comparison", "\ufeffx((a != b))\n"),
        ("x(\n  a ==\r\n  b)\r\n", "swap_comparison", "x(\n  (a != b))\r\n"),
    ],
)
def test_each_operator_changes_its_own_node_and_no_other_byte(code: str, operator: str, expected: str) -> None:
    found = [content for (_, name), content in mutants(code).items() if name == operator]
    assert expected in found


@pytest.mark.parametrize(
    "code",
    [
        "'''A docstring.'''\n",
        "def f(a: 'Text', b: 3) -> 'Text':\n    'Doc'\n",
        "x: 'Text'\n",
        "import a\nfrom b import c\n",
        "if TYPE_CHECKING:\n    x = 1\n",
        "def f():\n    return None\n",
        "def f():\n    return\n",
        "# a comment\n",
        "",
        "def broken(:\n",
    ],
)
def test_nothing_that_no_test_can_notice_is_changed(code: str) -> None:
    assert mutants(code) == {}


def test_the_inside_of_an_f_string_is_left_alone() -> None:
    assert {operator for _, operator in mutants("x = f'{a + 1} and {b == 2}'\n")} == {"drop_statement"}


def test_text_is_not_subtracted() -> None:
    assert "swap_arithmetic" not in {operator for _, operator in mutants("x(a + 'b')\nx('a' % b)\n")}


def test_only_lines_that_the_fix_adds_are_changed() -> None:
    old = "x = 1\ny = 2\nz = 3\n"
    assert {line for line, _ in mutants("x = 1\ny = 22\nz = 3\nw = 4\n", old)} == {2, 4}
    assert mutants(old, old) == {}


def test_mutants_are_spread_over_lines_and_operators() -> None:
    code = "".join(f"if a{n} == {n} and b:\n    c(d + {n})\n" for n in range(50))
    made = make_mutants("a.py", b"", code.encode(), limit=6)
    lines = [mutant.line for mutant in made]
    assert len(made) == 6
    assert max(lines) - min(lines) > 60
    assert len(set(lines)) == 6
    assert len({mutant.operator for mutant in made}) >= 3
    assert made == make_mutants("a.py", b"", code.encode(), limit=6)


def test_one_line_gives_as_many_as_it_can() -> None:
    assert len(make_mutants("a.py", b"", b"x = a + 1\n", limit=6)) == 3
    assert make_mutants("a.py", b"", b"x = a + 1\n", limit=0) == ()


NAMES = st.sampled_from(["a", "b", "c(1)", "'s'", "2", "True", "d[0]", "f'{a}'", "(a, b)"])
BINARY = st.sampled_from(["+", "-", "*", "==", "<", ">=", "in", "and", "or", "is not", "//"])
EXPRESSIONS = st.recursive(NAMES, lambda inner: st.tuples(inner, BINARY, inner).map(" ".join), max_leaves=6)
STATEMENTS = st.sampled_from(["x = {}", "if {}:\n    pass", "print({})", "x += {}", "assert {}", "while {}: break"])


@given(st.lists(st.tuples(STATEMENTS, EXPRESSIONS), min_size=1, max_size=6), st.integers(1, 8))
def test_every_mutant_parses_differs_and_is_on_a_line_of_the_fix(parts: list[tuple[str, str]], limit: int) -> None:
    code = "\n".join(statement.format(expression) for statement, expression in parts) + "\n"
    made = make_mutants("a.py", b"x = 0\n", code.encode(), limit=limit)
    assert len(made) <= limit
    assert len({mutant.content for mutant in made}) == len(made)
    for mutant in made:
        assert ast.dump(ast.parse(mutant.content)) != ast.dump(ast.parse(code))
        assert 1 <= mutant.line <= code.count("\n")


@given(st.binary(max_size=80))
def test_any_bytes_are_mutated_without_an_error(data: bytes) -> None:
    make_mutants("a.py", b"", data, limit=4)
