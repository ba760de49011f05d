"""Compares, outside, what tests asked for with what was expected. PURE.

A report of a run whose files ask instead of telling becomes the report that it stands for: under the task's own ids,
with a test that got a value wrong, or never asked, as failed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from envfarm.records.test_report import Asked, TestDetail, TestOutcome, TestReport
from envfarm.records.trust import ProtectedTest, ValueCheck
from envfarm_verifiers.matching import match_ids
from envfarm_verifiers.plain_value import NotPlainError, decode_text, holds

_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True)
class JudgedValues:
    """What became of a report of questions.

    Attributes:
        report: Under the task's own ids; what got a value wrong has failed.
        compared: Comparisons that were made.
        undecided: Numbers of the protected tests that answered with what is not plain data: an ordinary run decides.
    """

    report: TestReport
    compared: int
    undecided: tuple[int, ...]


def judge_values(report: TestReport, tests: Sequence[ProtectedTest]) -> JudgedValues:
    """Return the report that a run with hidden values stands for."""
    renamed = _renamed(report, match_ids(tests, report.collected))
    outcomes, details = dict(renamed.outcomes), dict(renamed.details)
    undecided, compared = [], 0
    answers: dict[tuple[str, int], list[Asked]] = {}
    for asked in renamed.asked:
        answers.setdefault((asked.test, asked.check), []).append(asked)
    for position, test in enumerate(tests):
        checks = {check.number: check for check in test.checks}
        unclear = False
        for name, numbers in test.asked.items():
            if outcomes.get(name) is not TestOutcome.PASSED:
                continue
            found = [
                judge_answers(checks[number], answers.get((name, number), [])) for number in numbers if number in checks
            ]
            compared += len(found)
            wrong = [why for why in found if why]
            unclear = unclear or None in found
            if wrong:
                outcomes[name] = TestOutcome.FAILED
                details[name] = TestDetail(message=f"E {wrong[0]}")
        if unclear:
            undecided.append(position)
    judged = msgspec.structs.replace(renamed, outcomes=outcomes, details=details)
    return JudgedValues(report=judged, compared=compared, undecided=tuple(undecided))


def judge_answers(check: ValueCheck, answers: Sequence[Asked]) -> str | None:
    """Return what is wrong with the answers to one check; empty where nothing is, None where one is not plain."""
    if not answers:
        return f"the check on line {check.line} was never made"
    plain = True
    for answer in answers:
        if answer.value is None:
            plain = False
            continue
        expected = _expected(check, answer.token)
        if expected is None:
            return f"the check on line {check.line} was made with a value that is none of the test's"
        try:
            value = decode_text(answer.value)
        except NotPlainError:
            return f"the check on line {check.line} was answered with what is no value"
        if not holds(check.operator, value, expected):
            return f"the value on line {check.line} is not the expected one: {_shown(value)}"
    return "" if plain else None


def _expected(check: ValueCheck, token: int | None) -> str | None:
    if check.first_token is None:
        return check.expected[0] if token is None else None
    position = -1 if token is None else token - check.first_token
    return check.expected[position] if 0 <= position < len(check.expected) else None


def _shown(value: object) -> str:
    try:
        return repr(value)[:_SHOWN_CHARACTERS]
    except (ValueError, RecursionError):
        return "a value too large to show"


def _renamed(report: TestReport, names: Mapping[str, str]) -> TestReport:
    """Return the report with tests of altered files under the task's own ids."""
    if all(seen == real for seen, real in names.items()):
        return report
    return msgspec.structs.replace(
        report,
        outcomes={names.get(name, name): outcome for name, outcome in report.outcomes.items()},
        details={names.get(name, name): detail for name, detail in report.details.items()},
        collected=tuple(names.get(name, name) for name in report.collected),
        code_hashes={names.get(name, name): text for name, text in report.code_hashes.items()},
        asked=tuple(msgspec.structs.replace(asked, test=names.get(asked.test, asked.test)) for asked in report.asked),
    )
