"""Which checks and twins calibration keeps: only what its runs showed."""

import json

import pytest

from envfarm.records.test_report import Asked, TestDetail, TestOutcome, TestReport
from envfarm.records.trust import Edit, Operator, ProtectedTest, Twin, TwinKind, ValueCheck
from task_miner.languages.guards import ProposedTwin
from task_miner.quality.check_choice import is_protected_by_values, keep_checks, read_answers
from task_miner.quality.twin_choice import (
    ENOUGH,
    candidate_rounds,
    choose_twins,
    confirming_plans,
    fails_everywhere,
    failures_of,
    still_wanted,
)

A, B = "t.py::f[1]", "t.py::f[2]"
PASSED, FAILED = TestOutcome.PASSED, TestOutcome.FAILED


def check(number: int, expected: str) -> ValueCheck:
    return ValueCheck(number=number, line=number + 1, operator=Operator.EQUAL, expected=(expected,), edits=())


TEST = ProtectedTest(path="t.py", name="f", ids=(A, B), fail_to_pass=(A,), checks=(check(0, "1"), check(1, "2")))


def answers(*said: tuple[str, int, list[str] | None], **outcomes: TestOutcome) -> TestReport:
    asked = tuple(
        Asked(test=name, check=number, value=None if value is None else json.dumps(value))
        for name, number, value in said
    )
    told = {A: PASSED, B: PASSED} | {{"a": A, "b": B}[key]: value for key, value in outcomes.items()}
    return TestReport(outcomes=told, collected=(A, B), asked=asked, session_ended=True, exit_status=0)


RIGHT = ((A, 0, ["i", "1"]), (B, 0, ["i", "1"]), (A, 1, ["i", "2"]))


def kept(report: TestReport) -> tuple[dict[str, tuple[int, ...]], list[int]]:
    found = keep_checks(TEST, read_answers([TEST], report), frozenset({A, B}))
    return found.asked, [item.number for item in found.checks]


@pytest.mark.parametrize(
    ("report", "asked", "numbers"),
    [
        (answers(*RIGHT), {A: (0, 1), B: (0,)}, [0, 1]),
        (answers(*RIGHT[:2]), {A: (0,), B: (0,)}, [0]),
        (answers(*RIGHT[:2], (A, 1, ["i", "3"])), {A: (0,), B: (0,)}, [0]),
        (answers((A, 0, None), *RIGHT[1:]), {A: (1,)}, [1]),
        (answers(*RIGHT, b=FAILED), {}, []),
    ],
    ids=["right", "never asked", "wrong", "not plain", "a test that fails then"],
)
def test_a_check_is_kept_where_every_answer_of_the_true_fix_is_plain_and_right(
    report: TestReport, asked: dict[str, tuple[int, ...]], numbers: list[int]
) -> None:
    assert kept(report) == (asked, numbers)


def test_values_protect_where_the_base_gets_one_of_each_deciding_test_wrong() -> None:
    test = keep_checks(TEST, read_answers([TEST], answers(*RIGHT)), frozenset({A, B}))
    wrong = answers((A, 0, ["i", "9"]), (A, 1, ["i", "2"]))
    assert is_protected_by_values(test, read_answers([test], wrong))
    assert is_protected_by_values(test, read_answers([test], TestReport()))
    assert not is_protected_by_values(test, read_answers([test], answers(*RIGHT)))


def proposed(kind: TwinKind, text: str) -> ProposedTwin:
    return ProposedTwin(kind=kind, line=1, edits=(Edit(path="t.py", start=0, end=1, text=text),))


def failed(error: str, outcome: TestOutcome = FAILED) -> TestReport:
    return TestReport(outcomes={A: outcome, B: PASSED}, details={A: TestDetail(error=error)}, collected=(A, B))


@pytest.mark.parametrize(
    ("kind", "report", "found"),
    [
        (TwinKind.LITERAL, failed("AssertionError"), {A: "AssertionError"}),
        (TwinKind.LITERAL, failed("Failed"), {A: "Failed"}),
        (TwinKind.LITERAL, failed("TypeError"), {}),
        (TwinKind.EXCEPTION, failed("TypeError"), {A: "TypeError"}),
        (TwinKind.INVERTED, failed("AssertionError", TestOutcome.ERROR), {A: "AssertionError"}),
        (TwinKind.LITERAL, failed("AssertionError", TestOutcome.TIMEOUT), {}),
        (TwinKind.LITERAL, TestReport(), {}),
    ],
)
def test_a_twin_counts_where_a_deciding_test_fails_as_it_has_to(
    kind: TwinKind, report: TestReport, found: dict[str, str]
) -> None:
    assert failures_of(TEST, kind, report) == found


@pytest.mark.parametrize(
    ("names", "report", "fails"),
    [
        ([A], failed("AssertionError"), True),
        ([B], failed("AssertionError"), False),
        ([A, B], failed("AssertionError"), False),
        ([A], TestReport(session_ended=True, exit_status=2), True),
        ([A], TestReport(), False),
        ([A], TestReport(collected=(A, B), outcomes={B: FAILED}), False),
        ([A], TestReport(collected=(A, B), outcomes={A: FAILED}), True),
        ([A], TestReport(collected=("t.py::f[9]",), outcomes={"t.py::f[9]": PASSED}, session_ended=True), False),
        ([A], TestReport(collected=("t.py::f[9]",), outcomes={"t.py::f[9]": FAILED}, session_ended=True), True),
    ],
    ids=[
        "fails",
        "passes",
        "one passes",
        "not collected",
        "nothing known",
        "hangs before",
        "hangs after",
        "other passes",
        "other fails",
    ],
)
def test_a_twin_is_strong_where_it_is_known_not_to_pass_on_the_base(
    names: list[str],
    report: TestReport,
    fails: bool,  # noqa: FBT001 -- a column of the table
) -> None:
    assert fails_everywhere(TEST, names, report) is fails


def test_two_candidates_are_tried_first_and_more_only_where_they_are_wanted() -> None:
    strong = [proposed(TwinKind.LITERAL, text) for text in "abcdef"]
    weak = [proposed(TwinKind.INVERTED, "g"), proposed(TwinKind.TAIL, "h")]
    rounds = candidate_rounds({0: [*strong, *weak], 1: weak})
    assert [[item.test for item in tried] for tried in rounds] == [[0, 1], [0], [0], [0], [0]]
    assert rounds[4][0].proposed.kind is TwinKind.INVERTED
    enough = {0: [made("a"), made("b")]}
    assert still_wanted(rounds[2:], enough) == []
    assert [len(tried) for tried in still_wanted(rounds[2:], {0: [made("a")]})] == [1, 1, 1]
    assert candidate_rounds({}) == []


def made(text: str, *, strong: bool = True) -> Twin:
    kind = TwinKind.LITERAL if strong else TwinKind.TAIL
    edits = (Edit(path="t.py", start=0, end=1, text=text),)
    return Twin(kind=kind, line=1, edits=edits, strong=strong, failures={A: "AssertionError"})


def test_strong_twins_of_different_alterations_are_kept_and_weak_ones_only_without_them() -> None:
    assert choose_twins([made("w", strong=False), made("a"), made("a"), made("b"), made("c")]) == (made("a"), made("b"))
    assert choose_twins([made("w", strong=False)]) == (made("w", strong=False),)
    assert choose_twins([]) == ()
    assert ENOUGH == 2


def test_every_twin_is_confirmed_once_beside_real_tests() -> None:
    tests = [
        ProtectedTest(path="t.py", name=str(n), ids=(), fail_to_pass=(), twins=(made("a"),) * n) for n in (2, 1, 0, 2)
    ]
    plans = confirming_plans(tests)
    assert sorted((number, turn) for plan in plans for number, turn in plan.twins.items()) == [
        (0, 0),
        (0, 1),
        (1, 0),
        (3, 0),
        (3, 1),
    ]
    assert all(len(plan.twins) < len(tests) for plan in plans)
    assert confirming_plans([]) == []
