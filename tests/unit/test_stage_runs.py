"""What one run of a stage is read as, and how limits follow a suite's length."""

import pytest

from envfarm.records.test_report import TestDetail, TestOutcome, TestReport
from envfarm.sandbox.contract import ExecResult
from envfarm_verifiers.test_run import TestRun
from task_miner.classify import CRASHED, DUPLICATE
from task_miner.stage_runs import StageResult, bounded_seconds, read_run

BEGUN = "the test had begun and never ended"
PATHS = ("tests/test_a.py", "tests/test_b.py")


def read(report: TestReport, **result: object) -> StageResult:
    ended = ExecResult(**({"exit_code": 0} | result))  # type: ignore[arg-type] # facts of a result by name
    return read_run("fixed_new_tests", TestRun(report=report, result=ended), order_seed=None, paths=PATHS)


def test_outcomes_and_messages_are_kept() -> None:
    report = TestReport(
        outcomes={"b": TestOutcome.FAILED, "a": TestOutcome.PASSED},
        details={"b": TestDetail(message="assert 0")},
        collection_errors={"tests/test_b.py": "ImportError"},
        session_ended=True,
        exit_status=1,
    )
    found = read(report, stdout=b"out", wall_seconds=1.5)
    assert list(found.run.outcomes.items()) == [("a", "passed"), ("b", "failed")]
    assert found.run.collection_errors == ("tests/test_b.py",)
    assert found.messages == {"b": "assert 0", "tests/test_b.py": "ImportError"}
    assert (found.output, found.wall_seconds) == ("out", 1.5)


@pytest.mark.parametrize(
    ("timed_out", "message", "expected"),
    [(False, BEGUN, CRASHED), (True, BEGUN, "timeout"), (False, "TestTimeoutError", "timeout")],
)
def test_the_test_in_which_the_process_died_crashed(timed_out: bool, message: str, expected: str) -> None:  # noqa: FBT001 -- a table
    report = TestReport(outcomes={"a": TestOutcome.TIMEOUT}, details={"a": TestDetail(message=message)})
    assert read(report, exit_code=None, signal=6, timed_out=timed_out).run.outcomes == {"a": expected}


def test_an_id_of_several_tests_has_no_outcome_of_its_own() -> None:
    report = TestReport(outcomes={"a": TestOutcome.PASSED}, duplicate_ids=("a",), session_ended=True, exit_status=0)
    assert read(report).run.outcomes == {"a": DUPLICATE}


@pytest.mark.parametrize(("status", "uncollected"), [(4, PATHS), (3, PATHS), (2, PATHS), (5, ()), (0, ()), (1, ())])
def test_a_session_that_ends_in_an_error_before_any_test_collected_nothing(
    status: int, uncollected: tuple[str, ...]
) -> None:
    assert read(TestReport(session_ended=True, exit_status=status)).run.collection_errors == uncollected


@pytest.mark.parametrize(
    ("limit", "wall", "expected"), [(60.0, 0.1, 10.0), (60.0, 1.21, 25.0), (60.0, 50.0, 60.0), (5.0, 0.1, 5.0)]
)
def test_limits_follow_the_length_of_the_suite_and_never_exceed_what_was_asked(
    limit: float, wall: float, expected: float
) -> None:
    assert bounded_seconds(limit, wall, 10.0) == expected
