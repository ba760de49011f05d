"""What was seen of one submission: all that the checks read. PURE."""

from dataclasses import dataclass, field

from envfarm.grading.level import STANDARD, GradingLevel
from envfarm.grading.submission_patch import SubmissionPlan
from envfarm.records.task import TestPlan
from envfarm.records.test_report import TestReport
from envfarm.records.trust import TrustPlan
from envfarm.sandbox.contract import ExecResult
from envfarm_verifiers.mixed_judge import MixedFindings
from envfarm_verifiers.patch_application import PatchApplied
from envfarm_verifiers.test_run import TestRun


@dataclass(frozen=True, kw_only=True)
class RunEvidence:
    """What was seen of one submission.

    Attributes:
        tests: Which tests decide.
        plan: What of the diff was to be applied.
        applied: What became of it; None where it was refused before.
        placed: Whether the hidden tests could be placed; None where it did not come to that.
        run: The whole run, under the task's own ids, with values judged; None where it did not come to that.
        level: How much was done against code that fights its grading.
        trust: What the task's hidden part holds; None for a task that was published without.
        canaries: Ids of the always-failing tests of the whole run.
        compared_values: Values that were compared outside.
        undecided: Names of tests that answered with what is not plain data, and were decided by an ordinary run.
        changed_files: Protected files that were not any more, after the run, what they were made.
        mixed: What the small runs showed; None where it did not come to them.
    """

    tests: TestPlan
    plan: SubmissionPlan
    applied: PatchApplied | None = None
    placed: bool | None = None
    run: TestRun | None = None
    level: GradingLevel = STANDARD
    trust: TrustPlan | None = None
    canaries: tuple[str, ...] = ()
    compared_values: int = 0
    undecided: tuple[str, ...] = ()
    changed_files: tuple[str, ...] = ()
    mixed: MixedFindings | None = field(default=None)

    def seen(self) -> tuple[TestReport, ExecResult]:
        """Return the whole run's report and end.

        Raises:
            ValueError: There was no run; the check that asks is no check of a run.
        """
        if self.run is None:
            message = "this check reads a run, and there was none"
            raise ValueError(message)
        return self.run.report, self.run.result
