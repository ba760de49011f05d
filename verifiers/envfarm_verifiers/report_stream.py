"""Reads what came down the report descriptor. PURE, and total: any bytes give a report, never an exception.

The stream is told by a process that also runs submitted code, so nothing is believed that does not carry the run's
nonce, and whatever does not fit is kept as a problem for the checks. A field of the wrong type is a problem as well: no
value gets into a report that its record could not hold, or that could not be written as JSON again.
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from envfarm.records.test_report import Asked, Finding, TestDetail, TestOutcome, TestReport

_MOST_PROBLEMS = 20
_MOST_LINES = 1 << 31
_LONGEST_TEXT = 4000
_TOLD_CHARACTERS = 40
_MOST_SECONDS = 1e9
_MOST_STATUS = 1 << 31
_DEEPEST = 150
_OUTCOMES = frozenset(TestOutcome)
CHANGED = "changed"
"""Kind of a finding of the snapshots."""


class _Collector:
    def __init__(self) -> None:
        self.outcomes: dict[str, TestOutcome] = {}
        self.details: dict[str, TestDetail] = {}
        self.collection_errors: dict[str, str] = {}
        self.duplicates: list[str] = []
        self.problems: list[str] = []
        self.collected: dict[str, None] = {}
        self.origins: dict[str, tuple[str, int]] = {}
        self.code_hashes: dict[str, str] = {}
        self.asked: list[Asked] = []
        self.findings: list[Finding] = []
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
            self.problem(f"a record of kind {_told(kind)} came after the session's end")
            return
        handler = getattr(self, f"_take_{kind}", None) if isinstance(kind, str) else None
        if handler is None:
            self.problem(f"a record of unknown kind {_told(kind)}")
            return
        named = _NAMED_BY.get(str(kind))
        if named is not None and not isinstance(record.get(named), str):
            self.problem(f"a record of kind {_told(kind)} without {named}")
            return
        handler(record)

    def _take_start(self, _: dict[str, Any]) -> None:
        """Nothing is told by it; it is there so that a report without any record is told from one cut short."""

    def _take_stopped(self, _: dict[str, Any]) -> None:
        self.stopped = True

    def _take_problem(self, record: dict[str, Any]) -> None:
        self.problem(_text(record, "text"))

    def _take_collected(self, record: dict[str, Any]) -> None:
        name, origin = _text(record, "id"), record.get("at")
        self.collected[name] = None
        if isinstance(origin, list) and [type(part) for part in origin] == [str, int] and 0 <= origin[1] <= _MOST_LINES:
            self.origins[name] = (_whole(origin[0]), origin[1])

    def _take_collect_error(self, record: dict[str, Any]) -> None:
        self.collection_errors[_text(record, "path")] = _text(record, "text")

    def _take_collect_skip(self, record: dict[str, Any]) -> None:
        self.outcomes[_text(record, "path")] = TestOutcome.SKIPPED

    def _take_begin(self, record: dict[str, Any]) -> None:
        self.running[_text(record, "id")] = None

    def _take_test(self, record: dict[str, Any]) -> None:
        name, outcome = _text(record, "id"), record.get("outcome")
        if not isinstance(outcome, str) or outcome not in _OUTCOMES:
            self.problem(f"a test with the unknown outcome {_told(outcome)}")
            return
        if name in self.outcomes:
            self.duplicates.append(name)
        self.running.pop(name, None)
        self.outcomes[name] = TestOutcome(outcome)
        if outcome != TestOutcome.PASSED:
            self.details[name] = TestDetail(
                message=_text(record, "text"), seconds=_seconds(record), error=_text(record, "error")
            )
        else:
            self.details.pop(name, None)
        if record.get("code"):
            self.code_hashes[name] = _text(record, "code")

    def _take_ask(self, record: dict[str, Any]) -> None:
        check, token, value = record.get("check"), record.get("token"), record.get("value")
        if type(check) is not int or not (token is None or type(token) is int) or not _fits(value):
            self.problem("a question of a check that is none")
            return
        told = None if value is None else json.dumps(value)
        self.asked.append(
            Asked(test=_text(record, "id"), check=check, token=token, value=told, type_name=_text(record, "type"))
        )

    def _take_audit(self, record: dict[str, Any]) -> None:
        self.findings.append(
            Finding(kind=_text(record, "finding"), where=_text(record, "where"), what=_text(record, "what"))
        )

    def _take_changed(self, record: dict[str, Any]) -> None:
        self.findings.append(Finding(kind=CHANGED, where=_text(record, "name"), what=_text(record, "how")))

    def _take_end(self, record: dict[str, Any]) -> None:
        status = record.get("status")
        self.ended = True
        if type(status) is int and abs(status) < _MOST_STATUS:
            self.status = status
        else:
            self.problem("the session's end has no status")


_NAMED_BY = {
    "collected": "id",
    "begin": "id",
    "test": "id",
    "collect_error": "path",
    "collect_skip": "path",
    "problem": "text",
    "ask": "id",
    "audit": "finding",
    "changed": "name",
}
"""The field without which a record of a kind says nothing."""


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
        collected=tuple(collector.collected),
        origins=collector.origins,
        code_hashes=collector.code_hashes,
        asked=tuple(collector.asked),
        findings=tuple(collector.findings),
    )


def _records(data: bytes, nonce: str, collector: _Collector) -> Iterator[dict[str, Any]]:
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        try:
            record = _decoded(line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            collector.problem("a line that is no JSON")
            continue
        if not isinstance(record, dict) or record.get("nonce") != nonce:
            collector.problem("a record without this run's nonce")
            continue
        yield record


def _decoded(line: bytes) -> Any:
    """Return the value of a line.

    What a test raised may hold half a character (a lone surrogate), which Python writes as an escape and msgspec
    refuses; such a line is honest all the same.
    """
    try:
        return msgspec.json.decode(line)
    except msgspec.MsgspecError:
        if b"\\u" not in line:
            raise
        return json.loads(line.decode())


def _text(record: dict[str, Any], name: str) -> str:
    """Return the end of a text; half a character in it stands as its escape."""
    value = record.get(name)
    if not isinstance(value, str):
        return ""
    return _whole(value if name in {"id", "path"} else value[-_LONGEST_TEXT:])


def _whole(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _fits(value: Any, depth: int = 0) -> bool:
    """Say whether a value is tagged lists of texts and flags, not too deep: then it can be written again."""
    if isinstance(value, list):
        return depth < _DEEPEST and all(_fits(item, depth + 1) for item in value)
    if isinstance(value, str):
        return True
    return value is None or isinstance(value, bool)


def _seconds(record: dict[str, Any]) -> float:
    seconds = record.get("seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return 0.0
    return float(seconds) if 0 <= seconds < _MOST_SECONDS else 0.0


def _told(value: Any) -> str:
    """Return the beginning of a value as it may stand in a problem."""
    return repr(value[:_TOLD_CHARACTERS]) if isinstance(value, str) else f"of type {type(value).__name__}"
