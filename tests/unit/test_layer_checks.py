"""A finding of a layer is an alarm exactly where the true fix does not show it, in words, and costs the reward."""

from dataclasses import replace

import msgspec
import pytest

from envfarm.errors import SettingsError
from envfarm.grading.level import FAST, STANDARD, STRICT, choose_level
from envfarm.grading.submission_patch import SubmissionPlan
from envfarm.records.task import TestPlan
from envfarm.records.test_report import Finding, TestOutcome, TestReport
from envfarm.records.trust import Calibration, TrustPlan
from envfarm.sandbox.contract import ExecResult
from envfarm_verifiers.checks import judge, passes
from envfarm_verifiers.evidence import RunEvidence
from envfarm_verifiers.layer_checks import attempts, mixed_runs, tampered, values_compared
from envfarm_verifiers.mixed_judge import MixedFindings
from envfarm_verifiers.patch_application import PatchApplied
from envfarm_verifiers.test_run import TestRun

REPORT = TestReport(
    outcomes={"t.py::a": TestOutcome.PASSED, "t.py::canary": TestOutcome.FAILED},
    collected=("t.py::a", "t.py::canary"),
    session_ended=True,
    exit_status=1,
)
CALIBRATION = Calibration(audit_kinds=("process_started",), changed_names=("hook:x",), unchecked_paths=("tests/log",))
GOOD = RunEvidence(
    tests=TestPlan(paths=("t.py",), fail_to_pass=("t.py::a",)),
    plan=SubmissionPlan(kept_patch=b"diff"),
    applied=PatchApplied(applied=True),
    placed=True,
    run=TestRun(report=REPORT, result=ExecResult(exit_code=1)),
    trust=TrustPlan(calibration=CALIBRATION),
    canaries=("t.py::canary",),
)


def saw(*findings: Finding, **changes: object) -> RunEvidence:
    report = msgspec.structs.replace(REPORT, findings=findings)
    return replace(GOOD, run=TestRun(report=report, result=ExecResult(exit_code=1)), **changes)  # type: ignore[arg-type] -- by name


def reported(**changes: object) -> RunEvidence:
    report = msgspec.structs.replace(REPORT, **changes)
    return replace(GOOD, run=TestRun(report=report, result=ExecResult(exit_code=1)))


def found(kind: str, where: str = "src/a.py:3") -> Finding:
    return Finding(kind=kind, where=where, what="gc")


def test_silent_layers_pay() -> None:
    assert tampered(GOOD).value == 1.0
    assert passes(GOOD)
    assert judge(GOOD)[0] == 1.0


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (saw(found("objects_listed")), "audit hook: it listed all objects of the process at src/a.py:3 (gc)"),
        (saw(Finding(kind="changed", where="_pytest.runner.x", what="replaced")), "snapshots: _pytest.runner.x was"),
        (saw(changed_files=("tests/test_a.py",)), "outside view: tests/test_a.py was changed while the tests ran"),
        (reported(duplicate_ids=("t.py::a",)), "t.py::a ended more than once"),
        (reported(collected=("t.py::canary",)), "t.py::a has an outcome and was never collected"),
        (reported(outcomes=dict.fromkeys(REPORT.outcomes, TestOutcome.PASSED)), "canaries: t.py::canary passed"),
    ],
)
def test_what_the_true_fix_does_not_show_is_an_alarm(evidence: RunEvidence, words: str) -> None:
    component = tampered(evidence)
    assert component.value == 0.0
    assert words in component.rationale
    assert len(component.evidence) > 1
    assert judge(evidence)[0] == 0.0
    assert not passes(evidence)


@pytest.mark.parametrize(
    "evidence",
    [
        saw(found("process_started")),
        saw(Finding(kind="changed", where="hook:x", what="added")),
        saw(changed_files=("tests/log",)),
        saw(found("frames_walked")),
        saw(found("runner_imported")),
        reported(duplicate_ids=("t.py::other",)),
    ],
)
def test_what_the_true_fix_shows_or_honest_code_does_is_none(evidence: RunEvidence) -> None:
    assert tampered(evidence).value == 1.0


def test_a_task_that_was_not_calibrated_has_no_alarms() -> None:
    assert judge(replace(saw(found("objects_listed")), trust=None))[0] == 1.0


def test_attempts_beyond_the_true_fixs_are_counted_by_kind_and_cost_nothing() -> None:
    evidence = saw(found("frames_walked"), found("frames_walked", "b.py:1"), found("process_started"))
    note = attempts(evidence)
    assert note.evidence == {"frames_walked": "2", "role": "note"}
    assert judge(evidence)[0] == 1.0
    assert attempts(replace(GOOD, run=None)).value == 1.0


@pytest.mark.parametrize(
    ("mixed", "value", "words"),
    [
        (MixedFindings(), 1.0, "0 outcomes as they have to be"),
        (MixedFindings(judged=8, altered=3), 1.0, "8 outcomes as they have to be, 3 of them"),
        (MixedFindings(contradictions=("a passed although",)), 0.0, "contradict each other: a passed although"),
        (MixedFindings(missing={1: ("a",)}), 0.0, "1 small runs did not come to their end"),
    ],
)
def test_small_runs_are_a_gate(mixed: MixedFindings, value: float, words: str) -> None:
    component = mixed_runs(replace(GOOD, mixed=mixed))
    assert component.value == value
    assert words in component.rationale
    assert judge(replace(GOOD, mixed=mixed))[0] == value


def test_values_that_are_no_plain_data_are_told() -> None:
    assert "7 values" in values_compared(replace(GOOD, compared_values=7)).rationale
    note = values_compared(replace(GOOD, undecided=("test_a", "b", "c", "d")))
    assert (note.value, note.evidence) == (0.0, {"role": "note"})
    assert "test_a, b, c and 1 more" in note.rationale


def test_levels_are_chosen_by_name() -> None:
    assert (choose_level("fast"), choose_level("standard"), choose_level("strict")) == (FAST, STANDARD, STRICT)
    assert choose_level("strict", 2) == replace(STRICT, mixed_runs=2)
    assert choose_level("standard", 0).mixed_runs == 0
    for name, runs in (("loose", None), ("fast", -1)):
        with pytest.raises(SettingsError):
            choose_level(name, runs)
