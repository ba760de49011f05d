"""Small runs: whose coin is whose, and what their outcomes say."""

import importlib.util
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.records.test_report import TestOutcome, TestReport
from envfarm.records.trust import Edit, ProtectedTest, Twin, TwinKind
from envfarm_verifiers.matching import match_ids
from envfarm_verifiers.mixed_judge import MixedFindings, judge_mixed_runs
from envfarm_verifiers.mixed_plan import MixedRun, definitions_of, plan_mixed_runs, prefix_of
from envfarm_verifiers.test_run import trusted_folder

PASSED, FAILED = TestOutcome.PASSED, TestOutcome.FAILED
FILES = {"t.py": b"one two"}


def twin(text: str, *names: str) -> Twin:
    edits = (Edit(path="t.py", start=0, end=3, text=text),)
    return Twin(
        kind=TwinKind.LITERAL, line=1, edits=edits, strong=True, failures=dict.fromkeys(names, "AssertionError")
    )


A = ProtectedTest(
    path="t.py",
    name="a",
    ids=("t.py::a[1]", "t.py::a[2]"),
    fail_to_pass=("t.py::a[1]",),
    twins=(twin("1", "t.py::a[1]"),),
)
B = ProtectedTest(path="t.py", name="b", ids=("t.py::b",), fail_to_pass=("t.py::b",))
C = ProtectedTest(path="t.py", name="c", ids=("t.py::c",), fail_to_pass=(), twins=(twin("2", "t.py::c"),))
TESTS = (A, B, C)


@given(st.integers(), st.integers(2, 8), st.integers(1, 3))
def test_each_altered_test_is_real_at_least_once_and_altered_at_least_once(seed: int, runs: int, twins: int) -> None:
    many = ProtectedTest(path="t.py", name="m", ids=("t.py::m",), fail_to_pass=("t.py::m",), twins=A.twins * twins)
    plans = plan_mixed_runs((many, A, B), runs, random.Random(seed).randrange)
    assert len(plans) == runs
    for number in (0, 1):
        altered = sum(number in plan.twins for plan in plans)
        assert 0 < altered < runs
    assert all(2 not in plan.twins for plan in plans)
    assert all(plan.twins.get(0, 0) < twins for plan in plans)


def test_coins_of_different_tests_are_their_own() -> None:
    other = ProtectedTest(path="t.py", name="d", ids=("t.py::d",), fail_to_pass=("t.py::d",), twins=A.twins)
    seen = set()
    for seed in range(50):
        for plan in plan_mixed_runs((A, other), 4, random.Random(seed).randrange):
            seen.add(frozenset(plan.twins))
    assert seen == {frozenset(), frozenset({0}), frozenset({1}), frozenset({0, 1})}


@pytest.mark.parametrize(("tests", "runs"), [((B, C), 4), (TESTS, 0), ((), 4)])
def test_nothing_to_mix_is_no_run(tests: tuple[ProtectedTest, ...], runs: int) -> None:
    assert plan_mixed_runs(tests, runs, random.Random(0).randrange) == ()


def test_a_run_holds_the_altered_files_and_runs_the_deciding_definitions() -> None:
    assert MixedRun(twins={0: 0}).files(TESTS, FILES) == {"t.py": b"1 two"}
    assert MixedRun(twins={}).files(TESTS, FILES) == {}
    assert definitions_of(TESTS) == ("t.py::a", "t.py::b")


def test_ids_that_follow_values_are_matched_by_position() -> None:
    assert match_ids((A,), ["t.py::b", "t.py::a[x]", "t.py::a[1]"]) == {
        "t.py::a[x]": "t.py::a[1]",
        "t.py::a[1]": "t.py::a[2]",
    }
    assert match_ids((A,), ["t.py::a[1]"]) == {}


def report(*, ended: bool = True, **outcomes: TestOutcome) -> TestReport:
    named = {{"a1": "t.py::a[9]", "a2": "t.py::a[2]", "b": "t.py::b"}[key]: value for key, value in outcomes.items()}
    return TestReport(outcomes=named, collected=tuple(named), session_ended=ended, exit_status=0 if ended else None)


def judged(altered: bool, found: TestReport) -> MixedFindings:  # noqa: FBT001 -- a table
    return judge_mixed_runs(TESTS, [MixedRun(twins={0: 0} if altered else {})], [found])


@pytest.mark.parametrize(
    ("altered", "a1", "b", "said"),
    [
        (False, PASSED, PASSED, ""),
        (True, FAILED, PASSED, ""),
        (True, TestOutcome.ERROR, PASSED, ""),
        (True, PASSED, PASSED, "t.py::a[1] passed although"),
        (True, TestOutcome.SKIPPED, PASSED, "t.py::a[1] skipped although"),
        (True, TestOutcome.XPASSED, PASSED, "although"),
        (False, FAILED, PASSED, "t.py::a[1] passed in the whole run and failed"),
        (True, FAILED, FAILED, "t.py::b passed in the whole run and failed"),
    ],
)
def test_outcomes_that_contradict_each_other_are_told(
    altered: bool,  # noqa: FBT001 -- a table
    a1: TestOutcome,
    b: TestOutcome,
    said: str,
) -> None:
    found = judged(altered, report(a1=a1, a2=FAILED, b=b))
    assert bool(found.contradictions) == bool(said)
    assert said in " ".join(found.contradictions)
    assert not found.missing
    assert (found.judged, found.altered) == (2, int(altered))


@pytest.mark.parametrize(
    "found", [report(a1=PASSED, a2=PASSED), report(b=PASSED), report(ended=False, a1=PASSED, a2=PASSED, b=PASSED)]
)
def test_a_run_without_all_outcomes_or_without_its_end_is_missing(found: TestReport) -> None:
    assert list(judged(altered=False, found=found).missing) == [0]


@given(st.text(st.sampled_from("ab[]:/."), max_size=12))
def test_the_box_and_the_plan_tell_definitions_by_one_rule(node_id: str) -> None:
    assert prefix_of(node_id) == DEFINITION_OF(node_id)


def test_brackets_of_a_path_are_no_parameters() -> None:
    assert prefix_of("a[1]/t.py::C::x[2-[3]]") == "a[1]/t.py::C::x"


def load_definition_of() -> Callable[[str], str]:
    spec = importlib.util.spec_from_file_location("plugin_of_mixed", f"{trusted_folder().source}/report_plugin.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[str], str] = module.definition_of
    return found


DEFINITION_OF = load_definition_of()
