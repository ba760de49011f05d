"""What holds for every proposal, over tests written as libraries write them and over made-up ones."""

import ast
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envfarm.records.trust import STRONG_KINDS, Edit
from task_miner.languages.guards import ProposedTest
from task_miner.languages.python_guards import propose_guards

SQLPARSE = """\
import unittest

class TestFormat(unittest.TestCase):
    def test_keywordcase(self):
        sql = 'select * from bar; -- select foo\\n'
        res = sqlparse.format(sql, keyword_case='upper')
        self.assertEqual(res, 'SELECT * FROM bar; -- select foo\\n')
        self.assertRaises(SQLParseError, sqlparse.format, sql, keyword_case='foo')

    class Nested:
        def test_strip(self):
            s = 'select (\\n select 2)'
            assert sqlparse.format(s) == '\\n'.join(['select (',
                                                     '  select 2)'])
"""
PYJWT = """\
import pytest
from jwt.exceptions import DecodeError

class TestJWT:
    def test_decode_raises_exception_if_aud_is_none(self, jwt, payload):
        payload = {"some": "payload", "aud": None}
        token = jwt.encode(payload, "secret")
        with pytest.raises(DecodeError) as exc:
            jwt.decode(token, "secret", algorithms=["HS256"])
        assert str(exc.value) == "Invalid audience: None"

    @pytest.mark.parametrize("alg,key", [("HS256", b"k" * 32), ("none", None)], ids=["hmac", "none"])
    def test_header(self, alg, key):
        header = jwt.get_unverified_header(jwt.encode({}, key, alg))
        assert "alg" in header and header["alg"] == "HS256", header
"""
HUMANIZE = """\
import pytest

@pytest.mark.parametrize(
    "test_args, expected",
    [
        ([100], "100"),
        ([1000], "1,000"),
        (["1234567.1234567"], "1,234,567.1234567"),
        pytest.param([None], "None", id="nothing"),
    ],
)
def test_intcomma(test_args: list[int], expected: str) -> None:
    assert humanize.intcomma(*test_args) == expected
"""
TOMLKIT = '''\
def test_parsed_document_can_be_changed():
    content = """[foo] # c
bar = 1
"""
    doc = parse(content)
    doc["foo"]["bar"] = 2
    expected = """[foo] # c
bar = 2
"""
    assert doc.as_string() == expected
    assert isinstance(doc["foo"], Table)
    with pytest.raises(NonExistentKey):
        doc["x"]
'''
CLICK = """\
@pytest.mark.parametrize(("args", "exit_code"), [(["--a"], 0), ([], 2)])
def test_command(runner, args, exit_code):
    @click.command()
    @click.option("--a", is_flag=True, help="An option.")
    def cli(a):
        click.echo(f"a={a!r}")

    result = runner.invoke(cli, args, catch_exceptions=False)
    assert result.exit_code == exit_code
    if not exit_code:
        return
    assert not result.exception
    assert "Usage: cli [OPTIONS]" in result.output
    assert result.output.splitlines()[-1:] == [
        "Error: no",
    ]
"""
MORE_ITERTOOLS = """\
class ChunkedTests(TestCase):
    def test_even(self):
        for n, iterable, expected in [
            (2, 'ABCD', [['A', 'B'], ['C', 'D']]),
            (3, 'ABC', [['A', 'B', 'C']]),
        ]:
            with self.subTest(n=n, iterable=iterable):
                self.assertEqual(list(mi.chunked(iterable, n)), expected)
        self.assertEqual(list(mi.chunked('', 1)), [])

    async def test_numeric(self):
        with self.assertRaisesRegex(ValueError, 'n must be at least one'):
            await mi.chunked([], 0)
"""
LIBRARIES = {
    "sqlparse": SQLPARSE,
    "pyjwt": PYJWT,
    "humanize": HUMANIZE,
    "tomlkit": TOMLKIT,
    "click": CLICK,
    "more_itertools": MORE_ITERTOOLS,
}


def definitions(code: str) -> dict[str, tuple[int, int]]:
    """Return all functions by name, with their lines."""
    found: dict[str, tuple[int, int]] = {}

    def read(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                found[prefix + node.name] = (first, node.end_lineno or 0)
            elif isinstance(node, ast.ClassDef):
                read(node.body, f"{prefix}{node.name}::")

    read(ast.parse(code.encode()).body, "")
    return found


def propose(code: str, old: str | None = None) -> tuple[ProposedTest, ...]:
    return propose_guards(
        "tests/test_x.py", None if old is None else old.encode(), code.encode(), set(definitions(code))
    )


def apply(content: bytes, edits: list[Edit]) -> bytes:
    ordered = sorted(edits, key=lambda edit: (edit.start, edit.end))
    assert all(one.end <= other.start for one, other in pairwise(ordered))
    for edit in reversed(ordered):
        content = content[: edit.start] + edit.text.encode() + content[edit.end :]
    return content


def outside(content: bytes, tests: list[ProposedTest]) -> list[bytes]:
    lines = content.splitlines(keepends=True)
    own = {line for test in tests for line in range(test.first_line, test.last_line + 1)}
    return [text for line, text in enumerate(lines, start=1) if line not in own]


def hold_all_rules(code: str, old: str | None = None) -> tuple[ProposedTest, ...]:
    """Say what every proposal keeps, whatever the file."""
    made = propose(code, old)
    assert made == propose(code, old)
    content = code.encode()
    known = definitions(code)
    edits: list[Edit] = []
    number, token = 1, 1
    for test in made:
        assert (test.first_line, test.last_line) == known[test.name]
        for check in test.checks:
            assert all(isinstance(ast.literal_eval(text), object) for text in check.expected)
            edits += check.edits(number, token)
            number, token = number + 1, token + check.token_count
    asked = apply(content, edits)
    ast.parse(asked)
    assert len(asked.splitlines()) == len(content.splitlines())
    assert outside(asked, list(made)) == outside(content, list(made))
    for own in range(1, number):
        assert asked.count(f"__envfarm_ask__({own}, ".encode()) >= 1
    assert asked.count(b"__envfarm_token__(") == token - 1
    for turn in range(8):
        chosen = [test for test in made if len(test.twins) > turn]
        altered = apply(content, [edit for test in chosen for edit in test.twins[turn].edits])
        assert chosen == [] or ast.dump(ast.parse(altered)) != ast.dump(ast.parse(content))
        assert len(altered.splitlines()) == len(content.splitlines())
        assert outside(altered, chosen) == outside(content, chosen)
    return made


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_tests_as_libraries_write_them_are_protected(library: str, ends: str, mark: str) -> None:
    code = mark + LIBRARIES[library].replace("\n", ends)
    made = hold_all_rules(code)
    assert [test.name for test in made] == list(definitions(code))
    assert all(any(twin.kind in STRONG_KINDS for twin in test.twins) for test in made)
    assert any(test.checks for test in made)


def test_expected_values_are_gone_from_the_altered_file() -> None:
    secrets = {
        SQLPARSE: ["SELECT * FROM", "  select 2)"],
        PYJWT: ["Invalid audience", '"alg" in', '== "HS256"'],
        HUMANIZE: ['"1,000"', '"100"', "1,234,567.1234567", '"None"'],
        TOMLKIT: ["bar = 2"],
        CLICK: ["Usage: cli", "Error: no", "result.exit_code =="],
        MORE_ITERTOOLS: ["['A', 'B']", "), [])"],
    }
    for code, texts in secrets.items():
        made = propose(code)
        edits: list[Edit] = []
        for number, check in enumerate(check for test in made for check in test.checks):
            edits += check.edits(number, 100 * number)
        altered = apply(code.encode(), edits).decode()
        kept = [text for text in texts if text in altered]
        assert kept == (["result.exit_code =="] if code is CLICK else [])
        assert all(text in code for text in texts)


def test_only_named_definitions_are_altered_and_the_last_of_a_name_counts() -> None:
    code = "def test_a():\n    assert f() == 1\nif y:\n    def test_a():\n        assert f() == 2\n"
    code += "def test_b():\n    f(3)\n"
    (made,) = propose_guards("a.py", None, code.encode(), {"test_a", "TestX::test_a"})
    assert (made.path, made.name, made.first_line, made.last_line) == ("a.py", "test_a", 4, 5)
    assert made.checks[0].expected == ("2",)


@pytest.mark.parametrize(
    "check",
    [
        "assert time.time() - start < 3",
        "assert f() == datetime.now().year",
        "self.assertLess(perf_counter() - x, 1)",
        "t = time.monotonic() - x\n    assert t < 5",
    ],
)
def test_a_check_that_reads_a_clock_leaves_the_test_alone(check: str) -> None:
    assert propose(f"def test_a(self):\n    assert g() == 'word'\n    {check}\n") == ()
    assert propose("def test_a(self):\n    time.sleep(1)\n    assert clock.time == 'word'\n") != ()


@pytest.mark.parametrize(
    "content",
    [
        b"def test_a(:\n",
        b"def test_a():\n    assert f() == '\xff'\n",
        b"# coding: latin-1\ndef test_a():\n    assert f() == '\xe9'\n",
        b"# coding: latin-1\ndef test_a():\n    assert f() == '\xc3\xa9'\n",
        b"def test_a():\n    assert f() == 1\0\n",
    ],
)
def test_what_does_not_parse_or_is_not_utf8_has_no_proposals(content: bytes) -> None:
    assert propose_guards("a.py", None, content, {"test_a"}) == ()


def test_a_cookie_that_changes_nothing_is_fine() -> None:
    code = b"# -*- coding: utf-8 -*-\ndef test_a():\n    assert f() == '\xc3\xa9'\n"
    assert propose_guards("a.py", b"\xff", code, {"test_a"})[0].checks[0].expected == ("'é'",)


def test_proposals_are_the_same_whatever_the_hash_seed() -> None:
    program = (
        "import sys; from task_miner.languages.python_guards import propose_guards\n"
        "code = sys.stdin.buffer.read()\n"
        "print(ascii(propose_guards('a.py', None, code, {'test_a', 'test_b', 'test_c'})))"
    )
    code = "".join(f"def test_{n}(x):\n    y = f'b {{x}}'\n    assert f(x) == {{'a', 'c', y, 3}}\n" for n in "abc")
    code += "def test_a(x):\n    assert f(x) == {'a', 'c', 'd', 'e'}\n"
    root = Path(__file__).parents[2]
    made = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=code.encode(),
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{root}:{root / 'verifiers'}"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(made) == 1
    assert b"ProposedTwin" in made.pop()


ATOMS = st.sampled_from(
    ["x", "f(x)", "'é b'", "3", "-1.5", "None", "True", "b'a'", "f'{x} c'", "[]", "''", "'a' \\\n 'b'"]
)
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("({0[0]}, {0[1]})".format),
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.tuples(inner, inner).map("{{'k':\n {0[0]}, {0[1]}: 2}}".format),
        inner.map("({}  # note\n)".format),
    ),
    max_leaves=5,
)
STATEMENTS = st.sampled_from(
    [
        "assert {0} == {1}",
        "assert ({0}) is {1}, 'why'",
        "assert {0} in {1} and {1} == {0}",
        "assert not {0}",
        "self.assertEqual({0}, {1})",
        "self.assertIn({0}, {1}, {0})",
        "y = {0}\n    assert y == {1}",
        "y = {0}\n    assert g(x) == y",
        "for a, b in [({0}, {1}), ({1}, {0})]:\n        assert f(a) == b",
        "with raises(KeyError, match={0}):\n        f({1})",
        "f({0}); g({1})",
    ]
)
PARAMETERS = st.sampled_from(["", "@mark.parametrize('x, e', [({0}, {1}), param({1}, {0}, id='i')])\n"])


@settings(max_examples=25)
@given(
    st.lists(st.tuples(STATEMENTS, EXPRESSIONS, EXPRESSIONS), min_size=1, max_size=4),
    st.tuples(PARAMETERS, EXPRESSIONS, EXPRESSIONS),
    st.sampled_from(["old", "new"]),
)
def test_every_rule_holds_for_made_up_tests(
    parts: list[tuple[str, str, str]], sets: tuple[str, str, str], base: str
) -> None:
    lines = [statement.format(one, other) for statement, one, other in parts]
    text = "".join(f"    {line}\n" for line in lines)
    code = f"{sets[0].format(*sets[1:])}def test_a(self, x, e):\n{text}    assert f(x) == e\n"
    code += f"\nz = 1\n\ndef test_b(x):\n{text}"
    hold_all_rules(code, f"def test_b(x):\n{text}" if base == "old" else None)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    propose_guards("a.py", data, data, {"test_a"})
