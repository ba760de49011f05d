"""Each class and each trap of a before-and-after comparison, as tables of runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.records.task import StageRun, TestClass
from task_miner.classify import CRASHED, DUPLICATE, REQUIRED_TO_PASS, Classification, classify, judge_first_after
from task_miner.languages.contract import ChangedTests
from task_miner.reasons import ReasonCode

FILE = "tests/test_a.py"
X = f"{FILE}::test_x"
LETTERS = {
    "p": "passed",
    "f": "failed",
    "e": "error",
    "s": "skipped",
    "x": "xfailed",
    "X": "xpassed",
    "t": "timeout",
    "c": CRASHED,
    "d": DUPLICATE,
    "m": "missing",
}


def run(outcome: str, *, stage: str = "fixed_new_tests", others: int = 0, **facts: object) -> StageRun:
    """One run: a letter for the outcome of X, ``-`` for not there, ``!`` for a file that was not collected."""
    outcomes = {X: LETTERS[outcome]} if outcome in LETTERS else {}
    outcomes |= {f"{FILE}::test_other_{n}": "passed" for n in range(others)}
    errors = (FILE,) if outcome == "!" else ()
    cut = {"<": {"session_ended": False}, ">": {"session_ended": False, "timed_out": True}}.get(outcome, {})
    made = {"stage": stage, "order_seed": None, "outcomes": outcomes, "collection_errors": errors} | cut | facts
    return StageRun(**made)  # type: ignore[arg-type] # facts of a run by name


def tree(**facts: object) -> dict[str, ChangedTests]:
    empty: frozenset[str] = frozenset()
    made = {"added": empty, "changed": empty, "same": empty, "shared_changed": True} | facts
    return {FILE: ChangedTests(**made)}  # type: ignore[arg-type] # facts of a tree by name


def found(before: str, after: str, old: str = "", **facts: object) -> Classification:
    first = run(old) if old else None
    return classify(first, [run(one) for one in before], [run(one, others=1) for one in after], tree(**facts))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("fff", "ppp", TestClass.F2P),
        ("efe", "ppp", TestClass.F2P),
        ("xxx", "ppp", TestClass.F2P),
        ("ccc", "ppp", TestClass.F2P),
        ("!!!", "ppp", TestClass.C2P),
        ("<<<", "ppp", TestClass.C2P),
        ("ttt", "ppp", TestClass.T2P),
        ("tft", "ppp", TestClass.T2P),
        (">>>", "ppp", TestClass.T2P),
        ("---", "ppp", TestClass.N2P),
        ("mmm", "ppp", TestClass.N2P),
        ("sss", "ppp", TestClass.S2P),
        ("ppp", "ppp", TestClass.P2P),
        ("XXX", "ppp", TestClass.P2P),
        ("pXp", "ppp", TestClass.P2P),
        # what differs between runs of one side
        ("fpf", "ppp", TestClass.FLAKY),
        ("fff", "pfp", TestClass.FLAKY),
        ("fff", "pfs", TestClass.FLAKY),
        ("sfs", "ppp", TestClass.FLAKY),
        ("ffp", "ppp", TestClass.ORDER_DEPENDENT),
        ("ppf", "ppp", TestClass.ORDER_DEPENDENT),
        ("fff", "ppf", TestClass.ORDER_DEPENDENT),
        ("ppp", "pps", TestClass.ORDER_DEPENDENT),
        # ids that are not in all runs, or stand for several tests
        ("fff", "p-p", TestClass.UNSTABLE_ID),
        ("---", "p--", TestClass.UNSTABLE_ID),
        ("p--", "---", TestClass.UNSTABLE_ID),
        ("f-f", "ppp", TestClass.UNSTABLE_ID),
        ("fff", "ddd", TestClass.UNSTABLE_ID),
        ("ddd", "ppp", TestClass.UNSTABLE_ID),
        # what does not pass after the fix
        ("fff", "fff", TestClass.BROKEN),
        ("ppp", "fff", TestClass.BROKEN),
        ("ppp", "sss", TestClass.BROKEN),
        ("fff", "xxx", TestClass.BROKEN),
        ("fff", "XXX", TestClass.BROKEN),
        ("ppp", "---", TestClass.BROKEN),
    ],
)
def test_every_class_by_the_outcomes_of_both_sides(before: str, after: str, expected: TestClass) -> None:
    assert found(before, after).classes[X] is expected


@pytest.mark.parametrize(
    ("old", "facts", "expected"),
    [
        ("p", {"same": frozenset({"test_x"})}, TestClass.P2P),
        ("p", {}, TestClass.P2P),  # inherited, or made at run time: the trees do not know it
        ("p", {"changed": frozenset({"test_x"})}, TestClass.C2P),
        ("p", {"added": frozenset({"test_x"})}, TestClass.C2P),
        ("f", {"same": frozenset({"test_x"})}, TestClass.C2P),
        ("-", {"added": frozenset({"test_x"})}, TestClass.C2P),
        ("", {"added": frozenset({"test_x"})}, TestClass.C2P),
    ],
)
@pytest.mark.parametrize("hidden", ["!!!", "<<<"])
def test_a_test_that_its_files_import_hides_is_judged_by_its_old_file_and_its_tree(
    hidden: str, old: str, facts: dict[str, object], expected: TestClass
) -> None:
    before = [run(one) for one in hidden]
    after = [run(one, others=1) for one in "ppp"]
    changed = tree(**facts)
    assert classify(run(old) if old else None, before, after, changed).classes[X] is expected


def test_parameters_belong_to_the_function_that_the_tree_knows() -> None:
    name = f"{X}[1-a]"
    runs = [StageRun(stage="", order_seed=None, outcomes={name: "passed", f"{FILE}::test_n": "passed"})] * 3
    result = classify(runs[0], [run("!")] * 3, runs, tree(same=frozenset({"test_x"}), added=frozenset({"test_n"})))
    assert (result.classes[name], result.classes[f"{FILE}::test_n"]) == (TestClass.P2P, TestClass.C2P)


@pytest.mark.parametrize("held_by", [FILE, "tests", "", ".", f"{FILE}::TestA"])
def test_whatever_could_not_be_collected_hides_what_it_holds(held_by: str) -> None:
    name = f"{FILE}::TestA::test_x"
    after = StageRun(stage="", order_seed=None, outcomes={name: "passed"})
    before = StageRun(stage="", order_seed=None, outcomes={}, collection_errors=(held_by,))
    assert classify(None, [before] * 3, [after] * 3, {}).classes[name] is TestClass.C2P


def test_another_files_error_hides_nothing() -> None:
    before = run("-", collection_errors=("tests/test_ab.py", "test"))
    assert classify(None, [before] * 3, [run("p")] * 3, {}).classes[X] is TestClass.N2P


def test_a_file_that_only_cannot_be_collected_is_what_the_fix_mends() -> None:
    result = classify(run("p"), [run("!")] * 3, [run("p")] * 3, tree(same=frozenset({"test_x"})))
    assert (result.reason, result.classes[X]) == (ReasonCode.OK, TestClass.C2P)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("fff", "ppp", ReasonCode.OK),
        ("ppp", "ppp", ReasonCode.NO_FAIL_TO_PASS),
        ("fpf", "ppp", ReasonCode.ONLY_UNSTABLE),
        ("p", "p", ReasonCode.NO_FAIL_TO_PASS),
    ],
)
def test_the_reason_follows_from_the_classes(before: str, after: str, reason: ReasonCode) -> None:
    runs = [run(one) for one in before], [run(one) for one in after]
    assert classify(None, *runs, {}).reason is reason


def test_tests_that_the_fix_does_not_mend_are_told() -> None:
    kept = f"{FILE}::test_kept"
    runs = [run("f", outcomes={X: "failed", kept: "passed"})] * 3
    result = classify(None, runs, runs, {})
    assert result.reason is ReasonCode.NO_FAIL_TO_PASS
    assert "1 pass on neither side" in result.detail
    assert "neither" not in classify(None, [run("p")] * 3, [run("p")] * 3, {}).detail


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (run("p"), ReasonCode.OK),
        (run("p", collection_errors=("tests/test_b.py",)), ReasonCode.OK),
        (run("f"), ReasonCode.FIX_DOES_NOT_PASS),
        (run("X"), ReasonCode.FIX_DOES_NOT_PASS),
        (run("!"), ReasonCode.FIX_DOES_NOT_PASS),
        (run("-"), ReasonCode.NOTHING_RAN),
        (run("p", session_ended=False), ReasonCode.NOTHING_RAN),
        (run("p", session_ended=False, timed_out=True), ReasonCode.RUN_TIMEOUT),
    ],
)
def test_the_first_run_of_the_fixed_side_ends_most_candidates(first: StageRun, reason: ReasonCode) -> None:
    code, detail = judge_first_after(first)
    assert code is reason
    assert bool(detail) == (reason is not ReasonCode.OK)


@pytest.mark.parametrize(
    ("skipped", "passed", "reason"),
    [(6, 5, ReasonCode.MASS_SKIP), (6, 6, ReasonCode.OK), (5, 1, ReasonCode.OK), (60, 59, ReasonCode.MASS_SKIP)],
)
def test_mass_skips_are_an_alarm_and_a_few_are_not(skipped: int, passed: int, reason: ReasonCode) -> None:
    outcomes = {f"{FILE}::s{n}": "skipped" for n in range(skipped)} | {f"{FILE}::p{n}": "passed" for n in range(passed)}
    assert judge_first_after(run("-", outcomes=outcomes))[0] is reason


SIDES = st.lists(st.sampled_from([*LETTERS, "-", "!", "<", ">"]), min_size=3, max_size=5)


@given(before=SIDES, after=SIDES, old=st.sampled_from(["", *LETTERS]))
def test_only_what_passes_in_every_run_of_the_fixed_side_is_ever_required(
    before: list[str], after: list[str], old: str
) -> None:
    result = classify(run(old) if old else None, [run(one) for one in before], [run(one) for one in after], tree())
    kind = result.classes.get(X, TestClass.BROKEN)
    if kind in REQUIRED_TO_PASS | {TestClass.P2P}:
        assert set(after) == {"p"}
    if kind in REQUIRED_TO_PASS:
        assert not {"p", "X"} & set(before)
    if result.reason is ReasonCode.OK:
        assert result.ids_of(REQUIRED_TO_PASS)
    assert sum(result.counts().values()) == len(result.classes)


@pytest.mark.parametrize(("before", "after"), [("fff", "ppp"), ("ppp", "ppp"), ("ttt", "ppp"), ("mmm", "ppp")])
def test_a_test_that_measures_time_decides_nothing(before: str, after: str) -> None:
    judged = found(before, after, timed=frozenset({"test_x"}))
    assert judged.classes[X] is TestClass.FLAKY
    assert found(before, after, timed=frozenset({"test_other_0"})).classes[X] is not TestClass.FLAKY


def test_a_broken_test_stays_broken_however_it_measures() -> None:
    assert found("fff", "fff", timed=frozenset({"test_x"})).classes[X] is TestClass.BROKEN
