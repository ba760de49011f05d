"""Records come back as they went, and are refused by name where they are of another release."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.errors import Attribution, RecordError
from envfarm.records.claim import Claim
from envfarm.records.image import Folder, FolderAccess, Image
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import Environment, EnvironmentStep, StageRun, TestClass, ValidationRecord
from envfarm.records.test_report import TestDetail, TestOutcome, TestReport
from envfarm.records.trajectory import Role, StopReason, ToolCall, Trajectory, Turn
from envfarm.records.verdict import Component, Failure, Outcome, Verdict
from envfarm.records.versioned import Record, decode_line, decode_lines, encode_line, encode_lines

TEXT = st.text(max_size=20)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
COMPONENT = st.builds(
    Component, name=TEXT, value=NUMBER, rationale=TEXT, evidence=st.dictionaries(TEXT, TEXT, max_size=2)
)
FAILURE = st.builds(
    Failure, attribution=st.sampled_from(Attribution), code=TEXT, message=TEXT, retryable=st.booleans(), phase=TEXT
)
TURN = st.builds(
    Turn, role=st.sampled_from(Role), content=TEXT, tool_calls=st.lists(st.builds(ToolCall)).map(tuple), seconds=NUMBER
)
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(Claim, claim_id=TEXT, sandbox_id=TEXT, holder=TEXT, lease_seconds=NUMBER),
    st.builds(Submission, task_id=TEXT, kind=st.sampled_from(SubmissionKind), patch=st.binary(max_size=30)),
    st.builds(
        Image,
        image_id=TEXT,
        folders=st.lists(st.builds(Folder, source=TEXT, target=TEXT, access=st.sampled_from(FolderAccess))).map(tuple),
        environment_variables=st.dictionaries(TEXT, TEXT, max_size=2),
    ),
    st.builds(
        TestReport,
        outcomes=st.dictionaries(TEXT, st.sampled_from(TestOutcome), max_size=3),
        details=st.dictionaries(TEXT, st.builds(TestDetail, message=TEXT, seconds=NUMBER), max_size=2),
        session_ended=st.booleans(),
        exit_status=st.none() | st.integers(0, 255),
    ),
    st.builds(
        Environment,
        environment_id=TEXT,
        interpreter=TEXT,
        lock=TEXT,
        lock_sha256=TEXT,
        cutoff=st.none() | TEXT,
        steps=st.lists(st.builds(EnvironmentStep, command=st.just(("a", "b")), reason=TEXT), max_size=2).map(tuple),
    ),
    st.builds(
        ValidationRecord,
        runs=st.lists(st.builds(StageRun, stage=TEXT, order_seed=st.none() | st.integers(0, 9)), max_size=2).map(tuple),
        classes=st.dictionaries(TEXT, st.sampled_from(TestClass), max_size=3),
    ),
    st.builds(
        Trajectory,
        trajectory_id=TEXT,
        task_id=TEXT,
        policy=TEXT,
        turns=st.lists(TURN, max_size=2).map(tuple),
        stop_reason=st.none() | st.sampled_from(StopReason),
    ),
    st.builds(Verdict, task_id=TEXT, outcome=st.just(Outcome.SCORED), reward=NUMBER, components=st.tuples(COMPONENT)),
    st.builds(Verdict, task_id=TEXT, outcome=st.just(Outcome.UNSCORED), failure=FAILURE),
    st.builds(Verdict, task_id=TEXT, outcome=st.just(Outcome.CANCELLED)),
)


@given(RECORDS)
def test_a_record_comes_back_as_it_went_and_equal_records_are_equal_bytes(record: Record) -> None:
    line = encode_line(record)
    assert line.count(b"\n") == 1
    again = decode_line(line, type(record))
    assert again == record
    assert encode_line(again) == line


@given(st.lists(RECORDS, max_size=4))
def test_lines_of_one_kind_come_back_in_order(records: list[Record]) -> None:
    claims = [record for record in records if isinstance(record, Claim)]
    assert list(decode_lines(encode_lines(claims), Claim)) == claims


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "not a JSON line"),
        (b"[]", "not a JSON line"),
        (b"\xff", "not a JSON line"),
        (b"{}", "no schema"),
        (b'{"schema":"envfarm.claim/2"}', "written by another release"),
        (b'{"schema":"envfarm.image/1"}', "another kind"),
        (b'{"schema":"envfarm.claim/1","claim_id":"a"}', "malformed"),
        (
            b'{"schema":"envfarm.claim/1","claim_id":"a","sandbox_id":"b","holder":"c","lease_seconds":1,"more":2}',
            "malformed",
        ),
    ],
)
def test_other_versions_and_malformed_lines_are_refused_clearly(line: bytes, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        decode_line(line, Claim)


def test_a_bad_line_is_told_by_its_number() -> None:
    good = encode_line(Claim(claim_id="a", sandbox_id="b", holder="c", lease_seconds=1.0))
    with pytest.raises(RecordError, match=r"^line 3"):
        list(decode_lines(good + b"\n" + b"nonsense\n", Claim))


@given(st.binary())
def test_no_bytes_make_it_fail_otherwise(line: bytes) -> None:
    try:
        decode_line(line, Claim)
    except RecordError:
        return


@pytest.mark.parametrize(
    "wrong",
    [
        {"outcome": "scored"},
        {"outcome": "unscored", "reward": 0.0},
        {"outcome": "cancelled", "reward": 0.0},
        {"outcome": "scored", "reward": 1.0, "failure": {}},
        {"outcome": "unscored"},
    ],
)
def test_a_verdict_that_could_be_misread_is_refused(wrong: dict[str, Any]) -> None:
    line = msgspec.json.encode({"schema": "envfarm.verdict/1", "task_id": "t", **wrong})
    with pytest.raises(RecordError):
        decode_line(line, Verdict)


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_is_finite(reward: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Verdict(task_id="t", outcome=Outcome.SCORED, reward=reward)
