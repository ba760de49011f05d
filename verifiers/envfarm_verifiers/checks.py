"""Judges one run of a task's tests: small functions from what was seen to one component each. PURE.

The layers against code that fights its grading are in `layer_checks`. Gates have to be content, all of them, for a
reward of 1; notes are told and change nothing. Every rationale is for people: which tests, and the first lines of why.
"""

from collections.abc import Callable, Sequence

from envfarm.records.test_report import TestOutcome, TestReport
from envfarm.records.verdict import Component
from envfarm_verifiers.evidence import RunEvidence
from envfarm_verifiers.layer_checks import attempts, mixed_runs, tampered, values_compared

_TOLD_TESTS = 3
_TOLD_LINES = 2
_TOLD_CHARACTERS = 120
_EVIDENCE_TESTS = 50

Check = Callable[[RunEvidence], Component]


def judge(evidence: RunEvidence) -> tuple[float, tuple[Component, ...]]:
    """Return the reward and the components: gates up to where the submission got, then notes."""
    gates = [check(evidence) for check in SUBMISSION_GATES]
    if evidence.run is not None and _content(gates):
        gates += [check(evidence) for check in RUN_GATES]
        if evidence.trust is not None:
            gates.append(tampered(evidence))
        if evidence.mixed is not None:
            gates.append(mixed_runs(evidence))
    passed = evidence.run is not None and _content(gates)
    return float(passed), (*gates, *(check(evidence) for check in NOTES))


def passes(evidence: RunEvidence) -> bool:
    """Say whether the whole run alone would score 1: only then do small runs follow."""
    checks = (*SUBMISSION_GATES, *RUN_GATES, *((tampered,) if evidence.trust is not None else ()))
    return evidence.run is not None and _content([check(evidence) for check in checks])


def submission_applied(evidence: RunEvidence) -> Component:
    """The diff was accepted and applied."""
    if evidence.plan.refusal is not None:
        return _gate("submission_applied", evidence.plan.refusal)
    if evidence.applied is None or not evidence.applied.applied:
        told = evidence.applied.message if evidence.applied is not None else "it was never tried"
        return _gate("submission_applied", f"the patch does not apply: {_first_lines(told)}")
    return _gate("submission_applied", "", "nothing to apply" if not evidence.plan.kept_patch else "the patch applies")


def tests_placed(evidence: RunEvidence) -> Component:
    """The hidden tests found room beside the submission."""
    if evidence.placed is False:
        return _gate("tests_placed", "no space is left for the hidden tests: the submission fills the disk")
    return _gate("tests_placed", "", "the hidden tests are in place")


def session_ended(evidence: RunEvidence) -> Component:
    """The runner came to the end of its session, and said so itself."""
    report, result = evidence.seen()
    if report.session_ended:
        return _gate("session_ended", "", "the test session came to its end")
    if result.timed_out:
        running = [name for name, outcome in report.outcomes.items() if outcome is TestOutcome.TIMEOUT]
        where = f" in {_list(running)}" if running else " before any test began"
        return _gate("session_ended", f"the tests hung: the run's time limit came{where}")
    if result.out_of_memory:
        return _gate("session_ended", "the tests took more memory than the box has")
    if result.signal is not None:
        return _gate("session_ended", f"the test process was ended by signal {result.signal} before its session ended")
    tail = _last_lines(result.stderr or result.stdout)
    reason = f"the test process left with status {result.exit_code} before its session ended"
    return _gate("session_ended", f"{reason}: {tail}" if tail else reason)


def no_report_problems(evidence: RunEvidence) -> Component:
    """The report holds what the runner writes and nothing else."""
    report, _ = evidence.seen()
    if report.problems:
        return _gate("no_report_problems", f"the report was tampered with or is damaged: {_list(report.problems)}")
    return _gate("no_report_problems", "", "the report is whole")


def exit_agrees(evidence: RunEvidence) -> Component:
    """The process ended as the runner had announced."""
    report, result = evidence.seen()
    if report.session_ended and (result.exit_code is None or result.exit_code != report.exit_status):
        ended = f"signal {result.signal}" if result.exit_code is None else f"status {result.exit_code}"
        return _gate("exit_agrees", f"the session ended with status {report.exit_status}, the process with {ended}")
    return _gate("exit_agrees", "", "the process ended as the session did")


def fail_to_pass(evidence: RunEvidence) -> Component:
    """Every test that the fix has to mend passed."""
    return _all_passed("fail_to_pass", evidence, evidence.tests.fail_to_pass)


def pass_to_pass(evidence: RunEvidence) -> Component:
    """Every test that passed before still passes."""
    return _all_passed("pass_to_pass", evidence, evidence.tests.pass_to_pass)


def protected_paths(evidence: RunEvidence) -> Component:
    """What the submission tried to change of the grader's own; it had no effect."""
    dropped = evidence.plan.dropped
    told = f"{len(dropped)} changes to the grader's own files were left out" if dropped else "none was touched"
    listed = dict(dropped[:_EVIDENCE_TESTS])
    return Component(
        name="protected_paths", value=float(not dropped), rationale=told, evidence=listed | {"role": "note"}
    )


SUBMISSION_GATES: tuple[Check, ...] = (submission_applied, tests_placed)
RUN_GATES: tuple[Check, ...] = (session_ended, no_report_problems, exit_agrees, fail_to_pass, pass_to_pass)
NOTES: tuple[Check, ...] = (protected_paths, values_compared, attempts)


def _all_passed(name: str, evidence: RunEvidence, required: Sequence[str]) -> Component:
    report, _ = evidence.seen()
    missed = {test: report.outcomes.get(test, TestOutcome.MISSING) for test in required}
    missed = {test: outcome for test, outcome in missed.items() if outcome is not TestOutcome.PASSED}
    passed = len(required) - len(missed)
    if not missed:
        return Component(name=name, value=1.0, rationale=f"{passed} of {len(required)} pass", evidence={"role": "gate"})
    whys = [f"{test} {outcome}{_why(report, test)}" for test, outcome in list(missed.items())[:_TOLD_TESTS]]
    more = f"; and {len(missed) - _TOLD_TESTS} more" if len(missed) > _TOLD_TESTS else ""
    listed = {test: str(outcome) for test, outcome in list(missed.items())[:_EVIDENCE_TESTS]}
    return Component(
        name=name,
        value=0.0,
        rationale=f"{passed} of {len(required)} pass; not passed: " + "; ".join(whys) + more,
        evidence=listed | {"role": "gate"},
    )


def _why(report: TestReport, test: str) -> str:
    detail = report.details.get(test)
    text = detail.message if detail is not None else ""
    if not text:
        text = report.collection_errors.get(test.split("::", 1)[0], "")
    reason = _reason_lines(text)
    return f" ({reason})" if reason else ""


def _reason_lines(text: str) -> str:
    """Return the lines of a failure that say what was wrong: pytest marks them with ``E``."""
    marked = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")]
    lines = marked or [line.strip() for line in text.splitlines()[-_TOLD_LINES:]]
    return _first_lines("\n".join(lines))


def _first_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[:_TOLD_LINES])[:_TOLD_CHARACTERS]


def _last_lines(data: bytes) -> str:
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    return " / ".join(lines[-_TOLD_LINES:])[-_TOLD_CHARACTERS:]


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _TOLD_TESTS} more" if len(names) > _TOLD_TESTS else ""
    return ", ".join(name[:_TOLD_CHARACTERS] for name in names[:_TOLD_TESTS]) + more


def _gate(name: str, problem: str, content: str = "") -> Component:
    value, rationale = (0.0, problem) if problem else (1.0, content)
    return Component(name=name, value=value, rationale=rationale, evidence={"role": "gate"})


def _content(gates: Sequence[Component]) -> bool:
    return all(component.value == 1.0 for component in gates)
