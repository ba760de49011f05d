"""Reads what came down the report descriptor. PURE, and total: any bytes give a report, never an exception.

The stream is told by a process that also runs submitted code, so nothing is believed that does not carry the run's
nonce, and whatever does not fit is kept as a problem for the checks.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from envfarm.records.test_report import TestDetail, TestOutcome, TestReport

_MOST_PROBLEMS = 20
_OUTCOMES = frozenset(TestOutcome)


class _Collector:
    def __init__(self) -> None:
        self.outcomes: dict[str, TestOutcome] = {}
        self.details: dict[str, TestDetail] = {}
        self.collection_errors: dict[str, str] = {}
        self.duplicates: list[str] = []
        self.problems: list[str] = []
        self.collected: dict[str, None] = {}
        self.running: dict[str, None] = {}
        self.status: int | None = None
        self.ended = False
        self.stopped = False

    def problem(self, text: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(text)

    def take(self, record: dict[str, Any]) -> None:
        kind = record.get("kind")
        if self.ended:
            self.problem(f"a record of kind {str(kind)[:40]!r} came after the session's end")
            return
        handler = getattr(self, f"_take_{kind}", None) if isinstance(kind, str) else None
        if handler is None:
            self.problem(f"a record of unknown kind {str(kind)[:40]!r}")
            return
        handler(record)

    def _take_start(self, _: dict[str, Any]) -> None:
        """Nothing is told by it; it is there so that a report without any record is told from one cut short."""

    def _take_stopped(self, _: dict[str, Any]) -> None:
        self.stopped = True

    def _take_problem(self, record: dict[str, Any]) -> None:
        self.problem(_text(record, "text"))

    def _take_collected(self, record: dict[str, Any]) -> None:
        self.collected[_text(record, "id")] = None

    def _take_collect_error(self, record: dict[str, Any]) -> None:
        self.collection_errors[_text(record, "path")] = _text(record, "text")

    def _take_collect_skip(self, record: dict[str, Any]) -> None:
        self.outcomes[_text(record, "path")] = TestOutcome.SKIPPED

    def _take_begin(self, record: dict[str, Any]) -> None:
        self.running[_text(record, "id")] = None

    def _take_test(self, record: dict[str, Any]) -> None:
        name, outcome = _text(record, "id"), record.get("outcome")
        if outcome not in _OUTCOMES:
            self.problem(f"a test with the unknown outcome {str(outcome)[:40]!r}")
            return
        if name in self.outcomes:
            self.duplicates.append(name)
        self.running.pop(name, None)
        self.outcomes[name] = TestOutcome(outcome)
        seconds = record.get("seconds")
        if outcome != TestOutcome.PASSED:
            told = float(seconds) if isinstance(seconds, int | float) else 0.0
            self.details[name] = TestDetail(message=_text(record, "text"), seconds=told)

    def _take_end(self, record: dict[str, Any]) -> None:
        status = record.get("status")
        self.ended = True
        self.status = status if isinstance(status, int) else None


def parse_report(data: bytes, nonce: str, *, dropped_bytes: int = 0) -> TestReport:
    """Return what the stream says.

    Args:
        data: What came down the descriptor.
        nonce: The run's own; records without it are problems and nothing else.
        dropped_bytes: Bytes that the sandbox cut off: then the report is not whole, and says so.
    """
    collector = _Collector()
    for record in _records(data, nonce, collector):
        collector.take(record)
    if dropped_bytes:
        collector.problem(f"the report was cut: {dropped_bytes} bytes are missing")
    for name in collector.running:
        collector.outcomes[name] = TestOutcome.TIMEOUT
        collector.details[name] = TestDetail(message="the test had begun and never ended")
    if collector.ended and not collector.stopped:
        for name in collector.collected:
            collector.outcomes.setdefault(name, TestOutcome.MISSING)
    return TestReport(
        outcomes=collector.outcomes,
        details=collector.details,
        collection_errors=collector.collection_errors,
        duplicate_ids=tuple(dict.fromkeys(collector.duplicates)),
        session_ended=collector.ended,
        exit_status=collector.status,
        problems=tuple(collector.problems),
    )


def _records(data: bytes, nonce: str, collector: _Collector) -> Iterator[dict[str, Any]]:
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        try:
            record = msgspec.json.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            collector.problem("a line that is no JSON")
            continue
        if not isinstance(record, dict) or record.get("nonce") != nonce:
            collector.problem("a record without this run's nonce")
            continue
        yield record


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    return value if isinstance(value, str) else ""
