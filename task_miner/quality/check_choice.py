"""Which proposed checks are kept outside, by what runs of the true fix showed. PURE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from envfarm.records.test_report import Asked, TestOutcome, TestReport
from envfarm.records.trust import ProtectedTest, ValueCheck
from envfarm_verifiers.matching import match_ids
from envfarm_verifiers.value_judge import judge_answers


@dataclass(frozen=True)
class Answers:
    """What a run answered, under the task's own ids."""

    by_check: Mapping[tuple[str, int], Sequence[Asked]]
    passed: frozenset[str]


def read_answers(tests: Sequence[ProtectedTest], report: TestReport) -> Answers:
    """Return the answers of a run with altered files."""
    names = match_ids(tests, report.collected)
    answers: dict[tuple[str, int], list[Asked]] = {}
    for asked in report.asked:
        answers.setdefault((names.get(asked.test, asked.test), asked.check), []).append(asked)
    passed = frozenset(
        names[seen] for seen, outcome in report.outcomes.items() if seen in names and outcome is TestOutcome.PASSED
    )
    return Answers(answers, passed)


def keep_checks(test: ProtectedTest, answers: Answers, wanted: frozenset[str]) -> ProtectedTest:
    """Return the test with the checks that hold under the true fix, and who asks them.

    Args:
        test: With all checks that were tried.
        answers: The run's.
        wanted: Tests that pass when nothing is altered; one that does not pass here speaks against all its checks.
    """
    own = [name for name in test.ids if name in wanted]
    if not all(name in answers.passed for name in own):
        return msgspec.structs.replace(test, checks=(), asked={})
    kept = tuple(check for check in test.checks if _holds(check, own, answers))
    numbers = [check.number for check in kept]
    asked = {name: found for name in own if (found := tuple(n for n in numbers if answers.by_check.get((name, n))))}
    used = {number for found in asked.values() for number in found}
    return msgspec.structs.replace(test, checks=tuple(check for check in kept if check.number in used), asked=asked)


def _holds(check: ValueCheck, names: Sequence[str], answers: Answers) -> bool:
    found = [answers.by_check.get((name, check.number)) for name in names]
    return all(not asked or judge_answers(check, asked) == "" for asked in found)


def is_protected_by_values(test: ProtectedTest, base: Answers) -> bool:
    """Say whether each deciding test has a check of a secret value that the base gets wrong, or does not come to."""
    checks = {check.number: check for check in test.checks}
    for name in test.fail_to_pass:
        numbers = [number for number in test.asked.get(name, ()) if not checks[number].known]
        wrong = [n for n in numbers if judge_answers(checks[n], base.by_check.get((name, n), ())) != ""]
        if not wrong:
            return False
    return bool(test.fail_to_pass)
