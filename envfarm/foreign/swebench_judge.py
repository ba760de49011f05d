"""What the output of a SWE-bench task's eval.sh means. PURE.

A run that never came to its tests, or was cut off by us, tells nothing about the submission and is a failure, no 0.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envfarm.errors import VerifierError
from envfarm.foreign.log_formats import LogFormat, Status
from envfarm.records.verdict import Component

START, END = ">>>>> Start Test Output", ">>>>> End Test Output"
_REFUSALS = (">>>>> Patch Apply Failed", ">>>>> Reset Failed", ">>>>> Tests Errored", ">>>>> Tests Timed Out")
_EXIT_CODE = re.compile(r">>>>> Test Exit Code:\s*(-?\d+)")
_PASSING = frozenset({Status.PASSED, Status.XFAIL})
_TOLD_TESTS = 5


@dataclass(frozen=True, kw_only=True)
class TestLists:
    """Which tests decide, and how.

    Attributes:
        fail_to_pass: Have to pass.
        pass_to_pass: Have to pass, or be skipped.
        counts_silence: Whether a test that is not told of has passed (eval type ``fail_only``).
    """

    __test__ = False

    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    counts_silence: bool = False


def judge_log(log: str, log_format: LogFormat, tests: TestLists) -> tuple[float, tuple[Component, ...]]:
    """Return reward and components of what eval.sh printed.

    Raises:
        VerifierError: The tests did not begin, or a silent run says nothing of them.
    """
    refusal = next((words for words in _REFUSALS if words in log), None)
    if refusal is not None:
        return 0.0, (_gate("tests_ran", f"eval.sh says {refusal.removeprefix('>>>>> ')!r}", content=False),)
    if START not in log:
        message = "eval.sh did not come to its tests: it printed no start marker"
        raise VerifierError(message)
    begun = log.split(START, 1)[1]
    if END not in begun:
        return 0.0, (_gate("tests_ended", "the tests began and did not come to their end", content=False),)
    statuses = log_format.parse(begun.split(END, 1)[0]) or log_format.parse(log)
    if not statuses and tests.counts_silence:
        message = "the log tells of no test at all, and this task takes silence for a pass"
        raise VerifierError(message)
    code = _EXIT_CODE.search(log)
    failed = any(status in {Status.FAILED, Status.ERROR} for status in statuses.values())
    agrees = code is None or code[1] == "0" or failed or not statuses
    told = "the runner's exit code fits its log" if agrees else f"exit code {code and code[1]}, and no test failed"
    components = (
        _group("fail_to_pass", tests.fail_to_pass, _wrong(tests.fail_to_pass, statuses, tests, skips=False)),
        _group("pass_to_pass", tests.pass_to_pass, _wrong(tests.pass_to_pass, statuses, tests, skips=True)),
        _gate("exit_code", told, content=agrees),
    )
    return float(all(component.value == 1.0 for component in components)), components


def _wrong(names: Sequence[str], statuses: Mapping[str, Status], tests: TestLists, *, skips: bool) -> list[str]:
    wrong = []
    for name in names:
        status = find_status(name, statuses)
        fine = status in _PASSING or (skips and status is Status.SKIPPED)
        if tests.counts_silence:
            fine = status is not Status.FAILED
        if not fine:
            wrong.append(f"{name} ({status.lower() if status is not None else 'missing'})")
    return wrong


def find_status(name: str, statuses: Mapping[str, Status]) -> Status | None:
    """Return a test's status; of an id that was cut in its parameters, the one on which all that fit agree."""
    if name in statuses or name.count("[") <= name.count("]"):
        return statuses.get(name)
    fitting = [status for known, status in statuses.items() if known.startswith(name)]
    return fitting[0] if fitting and len({status in _PASSING for status in fitting}) == 1 else None


def _group(name: str, names: Sequence[str], wrong: Sequence[str]) -> Component:
    share = 1.0 if not names else (len(names) - len(wrong)) / len(names)
    told = f"{len(names) - len(wrong)} of {len(names)} pass"
    more = f" and {len(wrong) - _TOLD_TESTS} more" if len(wrong) > _TOLD_TESTS else ""
    rationale = f"{told}; not: {', '.join(wrong[:_TOLD_TESTS])}{more}" if wrong else told
    return Component(name=name, value=share, rationale=rationale)


def _gate(name: str, rationale: str, *, content: bool) -> Component:
    return Component(name=name, value=float(content), rationale=rationale)
