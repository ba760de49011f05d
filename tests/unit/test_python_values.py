"""Values of Python tests that are kept outside: what is asked, what is left alone, and what holds for all of it."""

import ast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from envfarm.records.trust import Operator
from task_miner.languages.guards import ProposedCheck
from task_miner.languages.python_guards import propose_guards
from task_miner.languages.python_lines import added_lines
from task_miner.languages.python_literals import literal_text


def checks_of(new: str, old: str | None = None, name: str = "test_a") -> tuple[ProposedCheck, ...]:
    made = propose_guards("tests/test_a.py", None if old is None else old.encode(), new.encode(), {name})
    return made[0].checks if made else ()


def asked(new: str, checks: tuple[ProposedCheck, ...]) -> str:
    """Apply all checks, numbered from 7, with tokens from 20."""
    content, number, token = new.encode(), 7, 20
    edits = []
    for check in checks:
        edits += check.edits(number, token)
        number, token = number + 1, token + check.token_count
    for edit in sorted(edits, key=lambda found: (found.start, found.end), reverse=True):
        content = content[: edit.start] + edit.text.encode() + content[edit.end :]
    return content.decode().replace("__envfarm_ask__", "ask").replace("__envfarm_token__", "token")


def body(*lines: str) -> str:
    return "def test_a(self, x, result):\n" + "".join(f"    {line}\n" for line in lines)


@pytest.mark.parametrize(
    ("line", "expected", "altered"),
    [
        ("assert f(x) == 'a b'", "'a b'", "assert ask(7, f(x))"),
        ("assert 'a b' == f(x)", "'a b'", "assert ask(7, f(x))"),
        ("assert (f(x)) == (-1)", "-1", "assert ask(7, f(x))"),
        ("assert(f(x) == 3)", "3", "assert ask(7, f(x))"),
        ("assert f(x) == 3, f'{x} is not 3'", "3", "assert ask(7, f(x))"),
        ("assert f(x) is None", "None", "assert ask(7, f(x))"),
        ("assert f(x) == True", "True", "assert ask(7, f(x))"),
        ("assert f(x) == ('a' 'b', b'c', 1.5)", "('ab', b'c', 1.5)", "assert ask(7, f(x))"),
        ("assert f(x) == {'b', 'a'}", "{'a', 'b'}", "assert ask(7, f(x))"),
        ("assert f(x) == {'k': [None, ()]}", "{'k': [None, ()]}", "assert ask(7, f(x))"),
        ("assert f(x) == '\\n'.join(['a', 'b'])", "'a\\nb'", "assert ask(7, f(x))"),
        ("assert f(x) == dedent('''\\\n        a\n        b''')", "'a\\nb'", "assert ask(7, f(x)\n\n)"),
        ("assert f(x) == 2 ** 10 - 1", "1023", "assert ask(7, f(x))"),
        ("assert 'é' == f('ü')  # why", "'é'", "assert ask(7, f('ü'))  # why"),
        ("assert await f(x) == 3", "3", "assert ask(7, await f(x))"),
        ("self.assertEqual(f(x), [1, 2], 'why')", "[1, 2]", "ask(7, f(x))"),
        ("self.assertEqual([1, 2], f(x))", "[1, 2]", "ask(7, f(x))"),
        ("self.assertEqual(f(x), 3, msg='3 it is')", "3", "ask(7, f(x))"),
        ("assert_equal('a', result)", "'a'", "ask(7, result)"),
        ("self.assertTrue(f(x) == 3)", "3", "ask(7, f(x))"),
        ("self.assertIsNone(f(x))", "None", "ask(7, f(x))"),
        ("assert result.exit_code == 2; x()", "2", "assert ask(7, result.exit_code); x()"),
        (
            "assert f(\n        x,  # one\n    ) == [\n        1,\n    ]",
            "[1]",
            "assert ask(7, f(\n        x,  # one\n    )\n\n)",
        ),
        ("assert (\n        f(x)  # left\n        == 3\n    )", "3", "assert ask(7, \nf(x)\n\n)"),
        ("assert f(x) == \\\n        3", "3", "assert ask(7, f(x)\n)"),
    ],
)
def test_a_comparison_with_a_literal_asks(line: str, expected: str, altered: str) -> None:
    code = body(line)
    code = code.replace("def", "async def") if "await" in line else code
    (check,) = checks_of(code)
    assert (check.operator, check.expected, check.tokens) == (Operator.EQUAL, (expected,), False)
    assert asked(code, (check,)) == code.replace(line, altered)
    ast.parse(asked(code, (check,)))


@pytest.mark.parametrize(
    ("line", "altered"),
    [
        ("assert 'Usage' in result.output", "assert ask(7, result.output)"),
        ("self.assertIn('Usage', result.output)", "ask(7, result.output)"),
    ],
)
def test_membership_asks_whether_the_value_holds_it(line: str, altered: str) -> None:
    (check,) = checks_of(body(line))
    assert (check.operator, check.expected) == (Operator.CONTAINS, ("'Usage'",))
    assert asked(body(line), (check,)) == body(altered)


def test_each_member_of_an_and_asks_for_itself() -> None:
    code = body("assert x and f(x) == 1 and (g(x) == 'b') and h(x) > 2")
    made = checks_of(code)
    assert [check.expected for check in made] == [("1",), ("'b'",)]
    assert asked(code, made) == body("assert x and ask(7, f(x)) and (ask(8, g(x))) and h(x) > 2")


@pytest.mark.parametrize(
    "line",
    [
        "assert f(x) == f'{x}'",
        "assert f(x) == y",
        "assert 1 == 1",
        "assert f(x) != 3",
        "assert not f(x) == 3",
        "assert f(x) == 3 or x",
        "assert f(x) is True",
        "assert f(x) == g(x) == 3",
        "assert f(x) == 3 == y",
        "assert (y := f(x)) == 3",
        "assert (yield x) == 3",
        "assert f(x) == 3j",
        "assert f(x) == {[]}",
        "assert f(x) == 'a' * 10 ** 9",
        "assert f(x) in (1, 2)",
        "assert f(x) == approx(0.1)",
        "self.assertEqual(f(x), 3, places=2)",
        "self.assertEqual(*x, 3)",
        "y = self.assertEqual(f(x), 3)",
        "with pytest.raises(AssertionError):\n        assert f(x) == 3",
        "try:\n        assert f(x) == 3\n    except AssertionError:\n        pass",
    ],
)
def test_what_is_no_plain_comparison_is_left_alone(line: str) -> None:
    assert checks_of(body(line)) == ()


def test_only_expected_values_on_new_lines_ask() -> None:
    old = body("assert f(x) == 1", "assert f(\n        x) == 3")
    new = body("assert f(x) == 1", "assert f(\n        x, 4) == 3", "assert g(x) == 5")
    assert [check.expected for check in checks_of(new, old) if not check.known] == [("3",), ("5",)]
    assert all(check.known for check in checks_of(old, old))


HUMANIZE = '''\
import pytest

@pytest.mark.parametrize("a", [1, 2])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, "1 second"),
        pytest.param(60, "a "
                         "minute", id="long"),
        [3600, None],
    ],
)
def test_a(a, value, expected):
    """Expected is what is expected."""
    print("expected:", repr(expected))
    with self.subTest(expected=expected):
        assert delta(value, a) == expected, f"not {expected}"
    if a:
        self.assertEqual(expected, delta(value))
'''


def test_every_set_of_a_parametrised_test_has_a_token() -> None:
    (check,) = checks_of(HUMANIZE)
    assert (check.tokens, check.expected, check.token_count) == (True, ("'1 second'", "'a minute'", "None"), 3)
    altered = asked(HUMANIZE, (check,))
    assert '(1, token(20)),\n        pytest.param(60, token(21\n), id="long"),\n        [3600, token(22)],' in altered
    assert "assert ask(7, delta(value, a), expected)\n" in altered
    assert "        ask(7, delta(value), expected)\n" in altered
    assert len(altered.splitlines()) == len(HUMANIZE.splitlines())
    record = check.numbered(7, 20)
    assert (record.number, record.first_token, len(record.edits)) == (7, 20, 7)


@pytest.mark.parametrize("ids", ["str", "['a', 'b', 'c']", "lambda value: repr(value)", "NAMES"])
def test_however_sets_are_named_they_have_tokens(ids: str) -> None:
    assert len(checks_of(HUMANIZE.replace("    ],\n)", f"    ],\n    ids={ids},\n)"))) == 1


def test_one_new_set_is_enough_for_tokens_in_all() -> None:
    old = HUMANIZE.replace('        (1, "1 second"),\n', "")
    assert len(checks_of(HUMANIZE, old)[0].expected) == 3
    assert not checks_of(HUMANIZE, old)[0].known
    assert checks_of(HUMANIZE, HUMANIZE)[0].known


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("import pytest\n", "import pytest\nparam = pytest.mark.parametrize\n"),
        ("import pytest\n", "from marks import parametrize as param\n"),
    ],
)
def test_parametrize_is_known_by_other_names(was: str, becomes: str) -> None:
    code = HUMANIZE.replace(was, becomes).replace("@pytest.mark.parametrize(\n", "@param(\n")
    assert len(checks_of(code)) == 1


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("    if a:\n", "    if expected:\n"),
        ("    if a:\n", "    expected = a\n    if a:\n"),
        ("    if a:\n", "    def inner(expected): pass\n    if a:\n"),
        ('"1 second"', "seconds(1)"),
        ("    ],\n)", "    ],\n    indirect=True,\n)"),
        ("[3600, None]", "*more"),
        ("[3600, None]", "(3600,)"),
        ("assertEqual(expected, delta(value))", "assertIn(expected, delta(value))"),
        ("== expected", "is expected"),
        ("delta(value, a) ==", "(y := delta(value, a)) =="),
    ],
)
def test_a_parameter_that_is_more_than_expected_is_left_alone(was: str, becomes: str) -> None:
    code = HUMANIZE.replace(was, becomes)
    assert code != HUMANIZE
    assert checks_of(code) == ()


def test_a_single_parameter_stands_for_whole_values() -> None:
    code = '@pytest.mark.parametrize("e", ["a", ("b", 1)])\ndef test_a(e):\n    assert f() == e\n'
    assert checks_of(code)[0].expected == ("'a'", "('b', 1)")


def test_a_local_variable_has_a_token_for_each_of_its_values() -> None:
    code = body("expected = '''a\n    b'''", "assert f(x) == expected", "expected = [1]", "assert g(x) == expected")
    made = checks_of(code)
    assert [check.expected for check in made] == [("'a\\n    b'", "[1]")]
    assert asked(code, made) == body(
        "expected = token(20\n)",
        "assert ask(7, f(x), expected)",
        "expected = token(21)",
        "assert ask(7, g(x), expected)",
    )


@pytest.mark.parametrize(
    "line",
    ["x(expected)", "expected += 1", "del expected", "for expected in y: pass", "global expected", "expected = y"],
)
def test_a_local_variable_with_another_use_or_value_is_left_alone(line: str) -> None:
    assert checks_of(body("expected = 1", "assert f(x) == expected", line)) == ()


@pytest.mark.parametrize(
    "head",
    [
        "for a, e in [(1, 'x'), (2, 'y')]:",
        "for a, e in ([1, 'x'], (2, 'y')):",
        "for i, (a, e) in enumerate([(1, 'x'), (2, 'y')]):",
        "for (a, b), e in [((1, 2), 'x'), ((1, 3), 'y')]:",
        "for a, e in {1: 'x', 2: 'y'}.items():",
        "cases = [(1, 'x'), (2, 'y')]\n    for a, e in cases:",
        "cases = {1: 'x', 2: 'y'}\n    for a, e in cases.items():",
    ],
)
def test_a_loop_over_a_literal_has_a_token_for_each_round(head: str) -> None:
    code = body(f"{head}\n        with self.subTest(a=a, e=e):\n            self.assertEqual(f(a), e)")
    made = checks_of(code)
    assert [check.expected for check in made] == [("'x'", "'y'")]
    assert "token(20)" in asked(code, made)
    assert "ask(7, f(a), e)" in asked(code, made)


def test_a_list_that_is_used_twice_is_left_alone() -> None:
    assert checks_of(body("c = [(1, 'x')]", "for a, e in c:\n        assert f(a) == e", "x(c)")) == ()


EXECUTED = """\
def slug(text, n=1):
    return "-".join(text.lower().split()) * n

@pytest.mark.parametrize("text, expected", [("A b", "a-b"), ("C", "c")])
def test_a(self, text, expected):
    assert slug(text) == expected
    assert slug("X Y") == "x-y" and slug("Q", 2) == "q" "q"
    self.assertEqual("z", slug("Z"))
    assert "b" in slug("a B")
    for value, wanted in [("D e", "d-e"), ("F", "f")]:
        assert slug(value) == wanted
"""


def test_what_is_asked_under_a_right_implementation_is_what_was_expected() -> None:
    made = checks_of(EXECUTED)
    assert len(made) == 6
    records = {7 + number: check for number, check in enumerate(made)}
    first, tokens = {}, 20
    for number, check in records.items():
        first[number] = tokens
        tokens += check.token_count
    seen: list[tuple[int, bool]] = []

    def ask(number: int, value: object, token: int | None = None) -> bool:
        check = records[number]
        expected = ast.literal_eval(check.expected[0 if token is None else token - first[number]])
        right = value == expected if check.operator is Operator.EQUAL else expected in value  # type: ignore[operator]
        seen.append((number, right))
        return True

    class Mark:
        class mark:  # noqa: N801 -- as pytest has it
            @staticmethod
            def parametrize(_: str, sets: list[tuple[str, int]]) -> object:
                def run(function: object) -> None:
                    for values in sets:
                        function(None, *values)  # type: ignore[operator]

                return run

    exec(asked(EXECUTED, made), {"ask": ask, "token": int, "pytest": Mark})  # noqa: S102 -- the altered test runs
    assert {number for number, _ in seen} == set(records)
    assert all(right for _, right in seen)
    assert len(seen) == 14


def test_a_mark_and_windows_line_ends_keep_their_places() -> None:
    code = "\ufeffdef test_a(): assert f('é') == 'ü'\r\n\r\ndef test_b():\r\n    assert f(\r\n        1) == [\r\n1]\r\n"
    made = propose_guards("a.py", None, code.encode(), {"test_a", "test_b"})
    altered = asked(code, tuple(check for test in made for check in test.checks))
    assert altered == (
        "\ufeffdef test_a(): assert ask(7, f('é'))\r\n\r\ndef test_b():\r\n    assert ask(8, f(\r\n        1)\r\n)\r\n"
    )


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def test_infinity_is_worth_what_it_reads() -> None:
    text = literal_text(ast.parse("[1e999, -1e999]", mode="eval").body)
    assert text is not None
    assert ast.literal_eval(text) == [float("inf"), float("-inf")]


@given(PLAIN)
def test_a_literal_is_worth_what_it_reads(value: object) -> None:
    assume("inf" not in repr(value))  # which is no literal
    tree = ast.parse(repr(value), mode="eval").body
    text = literal_text(tree)
    assert text is not None
    assert "\n" not in text
    assert ast.literal_eval(text) == value


@pytest.mark.parametrize("code", ["x", "f()", "1j", "...", "1/0", "{**a}", "[*a]", "9**9**9", "'a'+1", "1e999-1e999"])
def test_what_is_no_literal_has_no_text(code: str) -> None:
    assert literal_text(ast.parse(code, mode="eval").body) is None


@given(st.lists(st.sampled_from([b"a", b"b", b"c", b""])), st.lists(st.sampled_from([b"a", b"b", b"c", b""])))
def test_lines_that_are_not_added_are_all_in_the_base_in_order(before: list[bytes], after: list[bytes]) -> None:
    added = added_lines(before, after)
    rest = iter(before)
    assert all(line in rest for number, line in enumerate(after, start=1) if number not in added)
