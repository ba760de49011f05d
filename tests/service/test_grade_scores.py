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


def test_deciding_tests_first_give_the_same_rewards_and_say_no_without_the_others(tiny_task: "TinyTask") -> None:
    assert tiny_task.grade(tiny_task.patch({SOURCE: tiny_task.fixed}), deciding_first=True).reward == 1.0
    verdict = tiny_task.grade(b"", deciding_first=True)
    assert verdict.reward == 0.0
    found = {part.name: part for part in verdict.components}
    assert found["fail_to_pass"].value == 0.0
    assert found["pass_to_pass"].rationale == "0 of 0 pass"
    broken = tiny_task.fixed.replace("hello", "bye")
    verdict = tiny_task.grade(tiny_task.patch({SOURCE: broken}), deciding_first=True)
    assert [part.name for part in verdict.components if part.value == 0.0] == ["pass_to_pass"]
