"""What is said of one run: each gate by a table, and the reward by all of them."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from envfarm.grading.submission_patch import SubmissionPlan
from envfarm.records.task import TestPlan
from envfarm.records.test_report import TestDetail, TestOutcome, TestReport
from envfarm.records.verdict import Component
from envfarm.sandbox.contract import ExecResult
from envfarm_verifiers.checks import judge
from envfarm_verifiers.evidence import RunEvidence
from envfarm_verifiers.patch_application import PatchApplied
from envfarm_verifiers.test_run import TestRun

F2P, P2P = "t.py::test_new", "t.py::test_old"
PASSED = {F2P: TestOutcome.PASSED, P2P: TestOutcome.PASSED}
REPORT = TestReport(outcomes=PASSED, session_ended=True, exit_status=0)
GOOD = RunEvidence(
    tests=TestPlan(paths=("t.py",), fail_to_pass=(F2P,), pass_to_pass=(P2P,)),
    plan=SubmissionPlan(kept_patch=b"diff"),
    applied=PatchApplied(applied=True),
    placed=True,
    run=TestRun(report=REPORT, result=ExecResult(exit_code=0)),
)


def with_run(report: TestReport = REPORT, result: ExecResult = ExecResult(exit_code=0)) -> RunEvidence:  # noqa: B008 -- frozen
    return replace(GOOD, run=TestRun(report=report, result=result))


def with_report(**changes: object) -> RunEvidence:
    values = {"outcomes": PASSED, "session_ended": True, "exit_status": 0} | changes
    return with_run(TestReport(**values))


def failing(components: tuple[Component, ...]) -> dict[str, str]:
    return {component.name: component.rationale for component in components if component.value != 1.0}


def test_all_content_is_a_reward_of_one() -> None:
    assert judge(GOOD)[0] == 1.0
    assert failing(judge(GOOD)[1]) == {}


CUT = {"session_ended": False, "exit_status": None}
TABLE = [
    (replace(GOOD, run=None, plan=SubmissionPlan(refusal="it is odd")), "submission_applied", "it is odd"),
    (
        replace(GOOD, run=None, applied=PatchApplied(applied=False, message="error: no\nline 2")),
        "submission_applied",
        "the patch does not apply: error: no / line 2",
    ),
    (replace(GOOD, run=None, placed=False), "tests_placed", "the submission fills the disk"),
    (with_report(outcomes={}), "fail_to_pass", "0 of 1 pass; not passed: t.py::test_new missing"),
    (with_report(outcomes=PASSED | {F2P: TestOutcome.SKIPPED}), "fail_to_pass", "t.py::test_new skipped"),
    (with_report(outcomes=PASSED | {F2P: TestOutcome.XFAILED}), "fail_to_pass", "t.py::test_new xfailed"),
    (with_report(outcomes=PASSED | {F2P: TestOutcome.XPASSED}), "fail_to_pass", "t.py::test_new xpassed"),
    (with_report(outcomes=PASSED | {P2P: TestOutcome.ERROR}), "pass_to_pass", "t.py::test_old error"),
    (with_report(problems=("a foreign nonce",)), "no_report_problems", "a foreign nonce"),
    (with_report(exit_status=1), "exit_agrees", "the session ended with status 1, the process with status 0"),
    (
        with_run(REPORT, ExecResult(exit_code=None, signal=9)),
        "exit_agrees",
        "the session ended with status 0, the process with signal 9",
    ),
    (with_run(TestReport(**CUT), ExecResult(exit_code=0)), "session_ended", "left with status 0 before"),
    (with_run(TestReport(**CUT), ExecResult(exit_code=None, signal=11)), "session_ended", "signal 11"),
    (with_run(TestReport(**CUT), ExecResult(exit_code=None, signal=9, timed_out=True)), "session_ended", "hung"),
    (with_run(TestReport(**CUT), ExecResult(exit_code=None, signal=9, out_of_memory=True)), "session_ended", "memory"),
    (
        with_run(TestReport(**CUT), ExecResult(exit_code=3, stderr=b"a\nOSError: No space left on device\n")),
        "session_ended",
        "OSError: No space left on device",
    ),
]


@pytest.mark.parametrize(("evidence", "gate", "words"), TABLE)
def test_each_gate_gives_zero_and_says_why(evidence: RunEvidence, gate: str, words: str) -> None:
    reward, components = judge(evidence)
    assert reward == 0.0
    assert words in failing(components)[gate]


def test_the_first_lines_of_why_are_told_once_for_few_tests_of_many() -> None:
    names = tuple(f"t.py::test_{number}" for number in range(9))
    text = "def test():\n>   assert f() == 2\nE   assert 1 == 2\nE    +  where 1 = f()\n\nt.py:3: AssertionError"
    report = TestReport(
        outcomes=dict.fromkeys(names, TestOutcome.FAILED),
        details=dict.fromkeys(names, TestDetail(message=text)),
        session_ended=True,
        exit_status=0,
    )
    tests = TestPlan(paths=("t.py",), fail_to_pass=names)
    told = failing(judge(replace(with_run(report), tests=tests))[1])["fail_to_pass"]
    assert told.startswith("0 of 9 pass; not passed: t.py::test_0 failed (assert 1 == 2 / +  where 1 = f());")
    assert told.endswith("and 6 more")


def test_a_file_that_cannot_be_imported_is_the_reason_of_its_missing_tests() -> None:
    evidence = with_report(outcomes={}, collection_errors={"t.py": "E   ImportError: cannot import name 'x'"})
    assert "missing (ImportError: cannot import name 'x')" in failing(judge(evidence)[1])["fail_to_pass"]


def test_attempts_on_protected_paths_are_told_and_cost_nothing() -> None:
    plan = SubmissionPlan(kept_patch=b"diff", dropped=(("conftest.py", "created: belongs to the grader"),))
    reward, components = judge(replace(GOOD, plan=plan))
    assert reward == 1.0
    (note,) = [component for component in components if component.name == "protected_paths"]
    assert note.evidence == {"role": "note", "conftest.py": "created: belongs to the grader"}


outcomes = st.dictionaries(st.sampled_from([F2P, P2P, "t.py::other"]), st.sampled_from(list(TestOutcome)))
reports = st.builds(
    TestReport,
    outcomes=outcomes,
    session_ended=st.booleans(),
    exit_status=st.sampled_from([None, 0, 1, 2]),
    problems=st.sampled_from([(), ("p",)]),
)
results = st.builds(ExecResult, exit_code=st.sampled_from([None, 0, 1, 2]), timed_out=st.booleans())


@given(reports, results)
@example(
    TestReport(outcomes={F2P: TestOutcome.PASSED, P2P: TestOutcome.PASSED}, session_ended=True),
    ExecResult(exit_code=None, signal=9),
)
def test_a_reward_of_one_needs_a_whole_report_in_which_all_required_tests_pass(
    report: TestReport, result: ExecResult
) -> None:
    reward, _ = judge(with_run(report, result))
    whole = report.session_ended and not report.problems and report.exit_status == result.exit_code is not None
    passed = report.outcomes.get(F2P) == report.outcomes.get(P2P) == TestOutcome.PASSED
    assert reward == float(whole and passed)
