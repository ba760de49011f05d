"""What a submission earns, in a real jail with a real pytest: 1.0 for what mends, 0.0 with the reason for the rest."""

from typing import TYPE_CHECKING

from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask

SOURCE = "src/tiny/__init__.py"


def why(verdict: Verdict) -> str:
    assert verdict.outcome is Outcome.SCORED, verdict.failure
    return " | ".join(f"{c.name}: {c.rationale}" for c in verdict.components if c.value != 1.0)


def test_the_true_fix_scores_one(tiny_task: "TinyTask") -> None:
    verdict = tiny_task.grade(Submission(task_id="tiny-0001", kind=SubmissionKind.ORACLE))
    assert (verdict.reward, why(verdict)) == (1.0, "")


def test_no_change_scores_zero_and_names_the_tests(tiny_task: "TinyTask") -> None:
    verdict = tiny_task.grade(Submission(task_id="tiny-0001", kind=SubmissionKind.NO_OP))
    assert verdict.reward == 0.0
    assert "tests/test_tiny.py::test_add" in why(verdict)
    assert "assert -1 == 5" in why(verdict)
