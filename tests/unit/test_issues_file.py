"""Dumps of issues in the shapes that people have them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.errors import UserError
from task_miner.issues_file import IssueBook, describe_unread, parse_issues, read_issues

REST = {"number": 4, "title": "Bug", "body": "It breaks", "created_at": "2024-01-02T03:04:05Z"}
NODE = {"number": 4, "title": "Bug", "body": "It breaks", "createdAt": "2024-01-02T03:04:05Z"}


@pytest.mark.parametrize(
    "dump",
    [
        json.dumps(REST),
        json.dumps([REST]),
        json.dumps(REST) + "\n" + json.dumps(REST | {"number": 5}),
        json.dumps({"data": {"repository": {"issues": {"nodes": [NODE]}}}}),
        json.dumps({"type": "IssuesEvent", "payload": {"action": "opened", "issue": REST}}),
        json.dumps({"iid": 4, "title": "Bug", "description": "It breaks", "created_at": "2024-01-02 03:04:05 UTC"}),
    ],
    ids=["one object", "list", "JSON lines", "GraphQL", "GH Archive", "GitLab"],
)
def test_shapes(dump: str) -> None:
    issue = parse_issues(dump).issues[4]
    assert (issue.title, issue.body.text) == ("Bug", "It breaks")
    assert issue.text_before(1_800_000_000) == "Bug\n\nIt breaks"


def test_text_younger_than_the_fix_is_not_used() -> None:
    issue = parse_issues(json.dumps(REST)).issues[4]
    assert issue.text_before(issue.body.written_at) is None


def test_pull_requests_and_comments_are_told_apart() -> None:
    comment = {
        "issue_url": "https://example.org/repos/a/b/issues/4",
        "body": "me too",
        "created_at": "2024-01-03T00:00:00Z",
    }
    book = parse_issues("\n".join(map(json.dumps, [REST, REST | {"number": 9, "pull_request": {}}, comment])))
    assert set(book.issues) == {4}
    assert set(book.pull_requests) == {9}
    assert [item.text for item in book.issues[4].comments] == ["me too"]


@pytest.mark.parametrize(
    "dump",
    [
        {"data": {"repository": {"pullRequests": {"pageInfo": {}, "edges": [{"node": NODE}]}}}},
        {"data": {"repository": {"pullRequests": {"nodes": [NODE]}}}},
        NODE | {"mergeCommit": None},
        REST | {"pull_request": {"url": "x"}},
        {"type": "PullRequestEvent", "payload": {"action": "opened", "pull_request": REST}},
        {"iid": 4, "title": "Bug", "description": "It breaks", "created_at": "2024-01-02", "source_branch": "b"},
        {"merge_requests": [{"iid": 4, "title": "Bug", "description": "It breaks", "created_at": "2024-01-02"}]},
    ],
)
def test_pull_requests_are_known_in_every_shape(dump: dict[str, Any]) -> None:
    book = parse_issues(json.dumps(dump))
    assert (set(book.issues), set(book.pull_requests), book.unread) == (set(), {4}, ())
    assert book.pull_requests[4].body.text == "It breaks"


def test_of_several_states_the_oldest_is_kept_and_an_edited_text_is_as_young_as_its_edit() -> None:
    def row(body: str, when: str) -> str:
        return json.dumps({"created_at": when, "payload": {"issue": REST | {"body": body}}})

    rows = [row("second", "2024-02-02T00:00:00Z"), row("first", "2024-01-03T00:00:00Z"), row("third", "2024-03-02")]
    assert parse_issues("\n".join(rows)).issues[4].body.text == "first"
    edited = parse_issues(json.dumps(NODE | {"lastEditedAt": "2024-05-01T00:00:00Z"})).issues[4]
    assert edited.text_before(1_710_000_000) is None
    assert edited.text_before(1_720_000_000) is not None


def test_a_dump_of_several_repositories_is_refused(tmp_path: Path) -> None:
    rows = [json.dumps({"repo": {"name": name}, "payload": {"issue": REST}}) for name in ("a/One", "A/one", "b/two")]
    (tmp_path / "dump").write_text("\n".join(rows))
    with pytest.raises(UserError, match=r"several repositories \(a/one, b/two\)"):
        read_issues(tmp_path / "dump")
    (tmp_path / "dump").write_text("\n".join(rows[:2]))
    assert read_issues(tmp_path / "dump").repositories == ("a/one",)
    url = "https://api.example.org/repos/a/one"
    assert parse_issues(json.dumps(REST | {"repository_url": url})).repositories == ("a/one",)


def test_lines_that_are_nothing_are_counted_by_number() -> None:
    book = parse_issues(json.dumps(REST) + "\nnonsense\n" + json.dumps({"a": 1}))
    assert book.unread == (2, 3)
    assert "2, 3" in "".join(describe_unread(book))


def test_a_file_without_any_issue_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dump").write_text("nothing\n")
    with pytest.raises(UserError, match="holds no issue"):
        read_issues(tmp_path / "dump")
    with pytest.raises(UserError, match="cannot be read"):
        read_issues(tmp_path / "missing")


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from([*REST, "payload", "nodes", "issue"]) | st.text(), inner)
    ),
)


@given(JSON)
def test_any_json_gives_a_book(document: Any) -> None:
    assert isinstance(parse_issues(json.dumps(document)), IssueBook)
