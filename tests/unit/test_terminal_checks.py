"""What a terminal check asks and what an answer means, as tables."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.errors import Attribution, VerifierError
from envfarm.grading.config_check import find_config_problem
from envfarm.sandbox.contract import ExecResult
from envfarm_verifiers.terminal_checks import (
    CONFIG_SCHEMA,
    Check,
    Finding,
    judge_run,
    judge_seen,
    parse_checks,
    reward_of,
)


def check(kind: str, **wanted: Any) -> Check:
    (parsed,) = parse_checks({"checks": [{"name": "it", "kind": kind, **wanted}]})
    return parsed


FILE = {"type": "file", "mode": 0o644, "uid": 0, "sha256": "ab" * 32, "text": "one\ntwo\n"}


@pytest.mark.parametrize(
    ("wanted", "seen", "told"),
    [
        ({}, FILE, ""),
        ({"mode": "0644", "uid": 0, "sha256": "AB" * 32, "content": "one\ntwo\n", "regex": "^two$"}, FILE, ""),
        ({"type": "missing"}, {"type": "missing"}, ""),
        ({}, {"type": "missing"}, "missing"),
        ({}, {"type": "link", "text": "/etc/passwd"}, "a link"),
        ({"mode": "0600"}, FILE, "644"),
        ({"uid": 7}, FILE, "belongs to 0"),
        ({"sha256": "00" * 32}, FILE, "abab"),
        ({"content": "one\n"}, FILE, "holds"),
        ({"regex": "^three$"}, FILE, "pattern"),
        ({"mode": "0600"}, {"type": "file", "mode": "x"}, "no mode"),
        ({}, {}, "not seen"),
        ({}, {"type": ["file"]}, "not a file"),
    ],
)
def test_files(wanted: dict[str, Any], seen: dict[str, Any], told: str) -> None:
    found = judge_seen(check("file", path="/x", **wanted), seen)
    assert (found.value, told in found.rationale) == (0.0 if told else 1.0, True)


@pytest.mark.parametrize(
    ("made", "seen", "value"),
    [
        (check("process", regex="^nginx"), {"commands": ["sh", "nginx -g"]}, 1.0),
        (check("process", regex="^nginx"), {"commands": ["not nginx"]}, 0.0),
        (check("process", regex="^nginx"), {}, 0.0),
        (check("process", regex="x", count_min=0, count_max=0), {"commands": ["y"]}, 1.0),
        (check("process", regex="x", count_max=1), {"commands": ["x", "x"]}, 0.0),
        (check("port", port=80), {"open": True}, 1.0),
        (check("port", port=80), {"open": "yes"}, 0.0),
        (check("port", port=80, open=False), {"open": False}, 1.0),
        (check("http", url="http://localhost/"), {"status": 200}, 1.0),
        (check("http", url="http://localhost/", status=404), {"status": 404}, 1.0),
        (check("http", url="http://localhost/"), {"status": 500}, 0.0),
        (check("http", url="http://localhost/"), {"error": "refused"}, 0.0),
        (check("http", url="http://localhost/", regex="ok"), {"status": 200, "text": "not"}, 0.0),
    ],
)
def test_what_runs(made: Check, seen: dict[str, Any], value: float) -> None:
    assert judge_seen(made, seen).value == value


@pytest.mark.parametrize(
    ("wanted", "result", "value"),
    [
        ({}, ExecResult(exit_code=0), 1.0),
        ({"exit_code": 3}, ExecResult(exit_code=3), 1.0),
        ({}, ExecResult(exit_code=1, stderr=b"no"), 0.0),
        ({}, ExecResult(exit_code=None, signal=9, timed_out=True), 0.0),
        ({}, ExecResult(exit_code=None, signal=11), 0.0),
        ({"stdout": "five"}, ExecResult(exit_code=0, stdout=b"five\n"), 1.0),
        ({"stdout": "five"}, ExecResult(exit_code=0, stdout=b"fiver\n"), 0.0),
        ({"regex": "^v[0-9]"}, ExecResult(exit_code=0, stdout=b"x\nv2\n"), 1.0),
        ({"number": 3.14, "tolerance": 0.01}, ExecResult(exit_code=0, stdout=b" 3.1416\n"), 1.0),
        ({"number": 3.14}, ExecResult(exit_code=0, stdout=b"3.1416\n"), 0.0),
        ({"number": 0, "tolerance": 9}, ExecResult(exit_code=0, stdout=b"nan\n"), 0.0),
        ({"number": 0, "tolerance": 9}, ExecResult(exit_code=0, stdout=b"none\n"), 0.0),
    ],
)
def test_what_is_run(wanted: dict[str, Any], result: ExecResult, value: float) -> None:
    assert judge_run(check("command", argv=["x"], **wanted), result).value == value


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "no check"),
        ([{"name": "a", "kind": "file", "path": "/x", "weight": 0}], "no check has a weight"),
        ([{"name": "a", "kind": "file"}], "needs path"),
        ([{"name": "a", "kind": "command", "argv": []}], "needs argv"),
        ([{"name": "a", "kind": "port", "port": 1, "path": "/x"}], "knows no path"),
        ([{"name": "a", "kind": "file", "path": "/x", "regex": "("}], "regex"),
        ([{"name": "a", "kind": "file", "path": "/x", "mode": "rwx"}], "mode"),
        ([{"name": "a", "kind": "file", "path": "/x"}] * 2, "two checks"),
    ],
)
def test_checks_that_contradict_themselves_are_the_tasks_fault(items: list[dict[str, Any]], words: str) -> None:
    assert find_config_problem({"checks": items}, CONFIG_SCHEMA) is None
    with pytest.raises(VerifierError, match=words) as caught:
        parse_checks({"checks": items})
    assert caught.value.attribution is Attribution.TASK


def test_what_the_schema_knows_is_said_before_anything_runs() -> None:
    assert find_config_problem({}, CONFIG_SCHEMA) == "verifier_config.checks is missing"
    problem = find_config_problem({"checks": [{"name": "a", "kind": "fiel"}]}, CONFIG_SCHEMA)
    assert problem is not None
    assert "file" in problem


def test_the_reward_is_the_weighted_share_or_all() -> None:
    checks = [Check(name=name, kind="file", weight=weight) for name, weight in (("a", 3.0), ("b", 1.0), ("note", 0.0))]
    findings = {name: Finding(value=value, rationale="") for name, value in (("a", 1.0), ("b", 0.0), ("note", 0.0))}
    assert reward_of(checks, findings, require_all=False) == 0.75
    assert reward_of(checks, findings, require_all=True) == 0.0
    findings["b"] = Finding(value=1.0, rationale="")
    assert reward_of(checks, findings, require_all=True) == 1.0


@given(
    st.sampled_from(["file", "process", "port", "http"]),
    st.dictionaries(
        st.sampled_from(["type", "mode", "uid", "sha256", "text", "commands", "open", "status", "error"]),
        st.one_of(st.none(), st.integers(), st.text(max_size=4), st.lists(st.text(max_size=3), max_size=2)),
    ),
)
def test_no_answer_of_a_box_breaks_the_judge(kind: str, seen: dict[str, Any]) -> None:
    wanted = {
        "file": {"path": "/x", "mode": "644"},
        "process": {"regex": "a"},
        "port": {"port": 1},
        "http": {"url": "u"},
    }
    assert judge_seen(check(kind, **wanted[kind]), seen).value in {0.0, 1.0}
