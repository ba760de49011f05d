"""Values that are compared outside: what a box may send, and what becomes of a report of questions."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.records.test_report import Asked, TestOutcome, TestReport
from envfarm.records.trust import Operator, ProtectedTest, ValueCheck
from envfarm_verifiers.plain_value import NotPlainError, decode_text, holds
from envfarm_verifiers.value_judge import judge_values

EQUAL = Operator.EQUAL


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        (["n"], None),
        (["b", True], True),
        (["i", "-12"], -12),
        (["f", "0x1.8000000000000p+0"], 1.5),
        (["c", "0x1.0p+0", "-0x1.0p+1"], 1 - 2j),
        (["s", "a\ud800"], "a\ud800"),
        (["y", "00ff"], b"\x00\xff"),
        (["l", [["i", "1"], ["s", "x"]]], [1, "x"]),
        (["t", [["n"]]], (None,)),
        (["S", [["i", "1"]]], {1}),
        (["d", [[["s", "k"], ["l", []]]]], {"k": []}),
    ],
)
def test_plain_data_is_read_back(encoded: list[Any], value: object) -> None:
    assert decode_text(json.dumps(encoded)) == value


def test_a_number_too_long_for_int_is_read_back() -> None:
    assert decode_text(json.dumps(["i", "-" + "9" * 9000])) == 1 - 10**9000


@given(st.text() | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(json.dumps))
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    try:
        decode_text(text)
    except NotPlainError:
        return


@pytest.mark.parametrize(
    ("operator", "value", "expected", "right"),
    [
        (EQUAL, 1.0, "1", True),
        (EQUAL, "1", "1", False),
        (EQUAL, (1, 2), "[1, 2]", False),
        (EQUAL, [1, {"a": None}], "[1, {'a': None}]", True),
        (EQUAL, None, "None", True),
        (EQUAL, False, "None", False),
        (Operator.CONTAINS, "a word", "'word'", True),
        (Operator.CONTAINS, ["words"], "'word'", False),
        (Operator.CONTAINS, 5, "5", False),
    ],
)
def test_values_are_compared_as_python_does(operator: Operator, value: object, expected: str, right: bool) -> None:  # noqa: FBT001 -- a table
    assert holds(operator, value, expected) is right


PLAIN = ValueCheck(number=0, line=3, operator=EQUAL, expected=("5",), edits=())
TOKENS = ValueCheck(number=1, line=7, operator=EQUAL, expected=("'a'", "'b'"), first_token=10, edits=())
TEST = ProtectedTest(
    path="t.py",
    name="f",
    ids=("t.py::f[1]", "t.py::f[2]"),
    fail_to_pass=("t.py::f[1]",),
    checks=(PLAIN, TOKENS),
    asked={"t.py::f[1]": (0, 1), "t.py::f[2]": (1,)},
)


def answered(*answers: tuple[str, int, int | None, object], **outcomes: TestOutcome) -> TestReport:
    seen = ("t.py::f[token0]", "t.py::f[token1]")
    asked = tuple(
        Asked(test=seen[int(test)], check=check, token=token, value=None if value is None else json.dumps(value))
        for test, check, token, value in answers
    )
    told = dict.fromkeys(seen, TestOutcome.PASSED) | {seen[int(key[1])]: value for key, value in outcomes.items()}
    return TestReport(outcomes=told, collected=seen, asked=asked, session_ended=True, exit_status=0)


RIGHT = (("0", 0, None, ["i", "5"]), ("0", 1, 10, ["s", "a"]), ("1", 1, 11, ["s", "b"]))


def test_right_answers_pass_under_the_tasks_own_ids() -> None:
    found = judge_values(answered(*RIGHT), [TEST])
    assert found.report.outcomes == dict.fromkeys(TEST.ids, TestOutcome.PASSED)
    assert (found.compared, found.undecided) == (3, ())


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ((("0", 0, None, ["i", "6"]), *RIGHT[1:]), "line 3 is not the expected one: 6"),
        ((*RIGHT, ("0", 0, None, ["i", "6"])), "line 3 is not the expected one"),
        ((RIGHT[0], ("0", 1, 11, ["s", "a"]), RIGHT[2]), "line 7 is not the expected one: 'a'"),
        ((RIGHT[0], ("0", 1, 99, ["s", "a"]), RIGHT[2]), "none of the test's"),
        ((RIGHT[0], ("0", 1, None, ["s", "a"]), RIGHT[2]), "none of the test's"),
        ((("0", 0, 10, ["i", "5"]), *RIGHT[1:]), "none of the test's"),
        ((("0", 0, None, ["what"]), *RIGHT[1:]), "no value"),
        (RIGHT[1:], "line 3 was never made"),
    ],
)
def test_a_wrong_or_missing_answer_is_a_failure(answers: tuple[Any, ...], said: str) -> None:
    found = judge_values(answered(*answers), [TEST]).report
    assert found.outcomes["t.py::f[1]"] is TestOutcome.FAILED
    assert said in found.details["t.py::f[1]"].message
    assert found.outcomes["t.py::f[2]"] is TestOutcome.PASSED


def test_what_is_no_plain_data_is_undecided_but_a_wrong_answer_beside_it_is_wrong() -> None:
    found = judge_values(answered(("0", 0, None, None), *RIGHT[1:]), [TEST])
    assert found.undecided == (0,)
    assert found.report.outcomes["t.py::f[1]"] is TestOutcome.PASSED
    found = judge_values(answered(("0", 0, None, None), ("0", 1, 10, ["s", "x"]), RIGHT[2]), [TEST])
    assert found.report.outcomes["t.py::f[1]"] is TestOutcome.FAILED


def test_a_test_that_failed_by_itself_stays_failed_whatever_it_answered() -> None:
    found = judge_values(answered(*RIGHT, t0=TestOutcome.FAILED), [TEST])
    assert found.report.outcomes["t.py::f[1]"] is TestOutcome.FAILED
