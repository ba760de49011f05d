"""Whatever comes down the report descriptor gives a report, and only what carries the nonce counts in it."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.records.test_report import TestOutcome, TestReport
from envfarm.records.versioned import decode_line, encode_line
from envfarm_verifiers.report_stream import parse_report

NONCE = "00ff" * 8
LONG = 10_000


def line(record: object, nonce: object = NONCE) -> bytes:
    """Write a record as the plug-in does: ASCII, with escapes for whatever is no ASCII."""
    return json.dumps(record | {"nonce": nonce} if isinstance(record, dict) else record).encode()


def stream(*records: dict[str, Any]) -> bytes:
    return b"".join(line(record) + b"\n" for record in records)


def told(name: str, outcome: object = "passed", **more: object) -> dict[str, Any]:
    return {"kind": "test", "id": name, "outcome": outcome, "text": "", "seconds": 0.5} | more


END: dict[str, Any] = {"kind": "end", "status": 0}
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 1 << 64, 1e308, math.nan, math.inf])
TEXTS = st.text(max_size=8) | st.sampled_from(["\ud83d", "a\udce4b", "\0", "x" * LONG, *TestOutcome])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
KINDS = ("start", "stopped", "problem", "collected", "collect_error", "collect_skip", "begin", "test", "end", "_", "")
FIELDS = ("id", "path", "text", "outcome", "seconds", "status")
RECORDS = st.builds(
    lambda kind, fields: {"kind": kind} | fields,
    st.sampled_from(KINDS) | JSON,
    st.dictionaries(st.sampled_from(FIELDS), TEXTS | JSON, max_size=6),
)
HONEST = st.one_of(
    st.builds(told, st.sampled_from("abc"), st.sampled_from(TestOutcome).map(str)),
    st.builds(lambda name: {"kind": "begin", "id": name}, st.sampled_from("abc")),
    st.builds(lambda name: {"kind": "collected", "id": name}, st.sampled_from("abcd")),
    st.builds(lambda name, text: {"kind": "collect_error", "path": name, "text": text}, st.sampled_from("ef"), TEXTS),
    st.just({"kind": "stopped"}),
)
MANGLED = st.one_of(
    st.binary(max_size=30),
    RECORDS.map(line),
    HONEST.map(line),
    st.builds(line, RECORDS, JSON | st.just(NONCE.upper())),
    st.builds(line, JSON),
    st.builds(lambda record, cut: line(record)[:cut], HONEST, st.integers(0, 80)),
    st.just(b'{"nonce":"' + NONCE.encode() + b'","kind":"end","kind":"start","status":1,"status":0}'),
    st.just(b"[" * LONG),
    st.just(b'{"nonce":"' + NONCE.encode() + b'","kind":"test","id":"\\ud83d","seconds":' + b"9" * LONG + b"}"),
)


def check(report: TestReport) -> None:
    """Hold a report to its own types: what is in it can be written and read again."""
    assert decode_line(encode_line(report), TestReport) == report
    assert type(report.session_ended) is bool
    assert type(report.exit_status) in {int, type(None)}
    assert set(report.details) <= {name for name, what in report.outcomes.items() if what is not TestOutcome.PASSED}
    assert all(len(detail.message.encode()) < 8 * LONG for detail in report.details.values())
    assert len(report.problems) <= 20


@given(st.binary(max_size=200), st.integers(0, 5))
def test_any_bytes_are_a_report_that_did_not_end(data: bytes, dropped: int) -> None:
    report = parse_report(data, NONCE, dropped_bytes=dropped)
    check(report)
    assert not report.session_ended
    assert bool(report.problems) == bool(data.strip(b" \t\r\n\v\f") or dropped)


@given(st.lists(MANGLED, max_size=12))
def test_any_mixture_of_records_is_a_report_of_the_right_types(lines: list[bytes]) -> None:
    report = parse_report(b"\n".join(lines), NONCE)
    check(report)
    ends = [text for text in b"\n".join(lines).split(b"\n") if NONCE.encode() in text and b'"end"' in text]
    assert report.session_ended <= bool(ends)


@given(st.lists(st.builds(line, HONEST | st.just(END), JSON.filter(lambda nonce: nonce != NONCE)), max_size=6))
def test_nothing_counts_that_lacks_the_nonce(lines: list[bytes]) -> None:
    report = parse_report(b"\n".join(lines), NONCE)
    assert report == TestReport(problems=report.problems)
    assert len(report.problems) == len(lines)


@given(st.lists(HONEST, max_size=6), st.data())
def test_a_report_cut_anywhere_before_its_end_did_not_end(records: list[dict[str, Any]], data: st.DataObject) -> None:
    whole = stream(*records, END)
    assert parse_report(whole, NONCE).session_ended
    cut = data.draw(st.integers(0, len(whole) - 2), label="bytes kept")
    report = parse_report(whole[:cut], NONCE)
    check(report)
    assert not report.session_ended
    assert report.exit_status is None
    assert TestOutcome.MISSING not in set(report.outcomes.values()) - {record.get("outcome") for record in records}


@given(st.lists(HONEST, max_size=8))
def test_honest_records_are_believed_to_the_letter(records: list[dict[str, Any]]) -> None:
    report = parse_report(stream(*records, END), NONCE)
    check(report)
    assert report.problems == ()
    said = {record["id"]: record["outcome"] for record in records if record["kind"] == "test"}
    left = {record["id"] for record in records if record["kind"] == "begin"}
    last = {record["id"]: record["kind"] for record in records if record["kind"] in {"begin", "test"}}
    for name, outcome in said.items():
        assert report.outcomes[name] == ("timeout" if last[name] == "begin" else outcome)
    assert all(report.outcomes[name] == "timeout" for name in left - set(said))


@pytest.mark.parametrize("outcome", [None, [], {}, True, 1, "PASSED", "passed ", ["passed"], {"passed": 1}])
def test_an_outcome_that_is_none_is_a_problem_and_no_outcome(outcome: object) -> None:
    report = parse_report(stream(told("a", outcome), END), NONCE)
    assert (report.outcomes, report.session_ended) == ({}, True)
    assert "unknown outcome" in report.problems[0]


@pytest.mark.parametrize("status", [True, "0", 0.0, None, [], 1 << 31, -(10**30)])
def test_a_status_that_is_none_is_a_problem(status: object) -> None:
    report = parse_report(stream({"kind": "end", "status": status}), NONCE)
    assert (report.session_ended, report.exit_status) == (True, None)
    assert report.problems == ("the session's end has no status",)


@pytest.mark.parametrize("seconds", [True, "1", -1.0, 10**400, None, [1]])
def test_seconds_that_are_none_are_zero(seconds: object) -> None:
    report = parse_report(stream(told("a", "failed", seconds=seconds)), NONCE)
    assert report.details["a"].seconds == 0.0


@pytest.mark.parametrize(
    ("kind", "named"),
    [("test", "id"), ("begin", "id"), ("collected", "id"), ("collect_error", "path"), ("collect_skip", "path")],
)
@pytest.mark.parametrize("name", [None, 1, ["a"], True])
def test_a_record_that_names_nothing_is_a_problem(kind: str, named: str, name: object) -> None:
    report = parse_report(stream({"kind": kind, named: name, "outcome": "passed"}, END), NONCE)
    assert (report.outcomes, report.collection_errors) == ({}, {})
    assert report.problems == (f"a record of kind {kind!r} without {named}",)


def test_half_a_character_in_what_a_test_raised_is_honest() -> None:
    records = [told("a[\ud83d]", "failed", text="ValueError: \udce4"), told("b")]
    report = parse_report(stream(*records, END), NONCE)
    check(report)
    assert report.problems == ()
    assert report.outcomes == {"a[\\ud83d]": "failed", "b": "passed"}
    assert report.details["a[\\ud83d]"].message == "ValueError: \\udce4"


def test_of_a_long_text_the_end_is_kept() -> None:
    report = parse_report(stream(told("a", "failed", text="x" * LONG + "end")), NONCE)
    message = report.details["a"].message
    assert (len(message), message[-4:]) == (4000, "xend")


def test_a_test_that_passes_at_last_leaves_no_detail() -> None:
    report = parse_report(stream(told("a", "failed", text="once"), told("a"), END), NONCE)
    assert (report.outcomes, report.details, report.duplicate_ids) == ({"a": "passed"}, {}, ("a",))


def test_what_comes_after_the_end_is_a_problem_and_changes_nothing() -> None:
    before = parse_report(stream(told("a", "failed"), END), NONCE)
    report = parse_report(stream(told("a", "failed"), END, told("a"), END, told("b")), NONCE)
    assert msgspec.structs.replace(report, problems=()) == before
    assert len(report.problems) == 3


def test_tests_that_were_collected_and_never_ran_are_missing_unless_the_run_was_stopped() -> None:
    collected = [{"kind": "collected", "id": name} for name in ("a", "b")]
    assert parse_report(stream(*collected, told("a"), END), NONCE).outcomes == {"a": "passed", "b": "missing"}
    stopped = stream(*collected, told("a", "failed"), {"kind": "stopped"}, END)
    assert parse_report(stopped, NONCE).outcomes == {"a": "failed"}


@pytest.mark.parametrize(
    ("at", "origin"),
    [
        (["t.py", 3], ("t.py", 3)),
        (["\ud800.py", 3], ("\\ud800.py", 3)),
        (["t.py", 10**400], None),
        (["t.py", -1], None),
        ([3, "t.py"], None),
    ],
    ids=["a place", "half a character", "a huge line", "no line", "the wrong way round"],
)
def test_where_a_test_stands_can_always_be_written_again(at: object, origin: tuple[str, int] | None) -> None:
    report = parse_report(stream({"kind": "collected", "id": "t.py::a", "at": at}, END), NONCE)
    assert report.origins.get("t.py::a") == origin
    assert decode_line(encode_line(report), TestReport) == report
