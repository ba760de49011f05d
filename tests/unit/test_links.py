"""Links are found in a commit's message alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_miner.links import find_links


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Fix x (#12)", [("pull_request", 12, "squash_trailer")]),
        ("Fix x\n\nCloses #7", [("issue", 7, "closing_keyword")]),
        ("Fix x\n\nfixes #7, #8 and #9", [("issue", n, "closing_keyword") for n in (7, 8, 9)]),
        ("Resolves: GH-31", [("issue", 31, "closing_keyword")]),
        ("fix owner/repo#5", [("issue", 5, "closing_keyword")]),
        ("Closes https://example.org/a/b/issues/99", [("issue", 99, "closing_keyword")]),
        ("Merge pull request #44 from a/b\n\nTitle", [("pull_request", 44, "merge_subject")]),
        ("Merge branch 'x'\n\nSee merge request a/b!17", [("pull_request", 17, "merge_subject")]),
        ("Talk about #3", [("issue", 3, "mention")]),
        ("Nothing", []),
        ("prefix#3 and a/b/c", []),
        ("Run `closes #4` in a shell\n```\nfixes #5\n```", []),
        ("Merge pull request #1 from x\n\nfixes #1", [("pull_request", 1, "merge_subject")]),
    ],
)
def test_rules(message: str, expected: list[tuple[str, int, str]]) -> None:
    assert [(link.kind, link.number, link.found_in) for link in find_links(message)] == expected


def test_a_pull_requests_own_ref_is_as_sure_as_it_gets() -> None:
    heads = {"c" * 40: 21, "d" * 40: 22, "e" * 40: 23}
    links = find_links("Fix", ("c" * 40, "d" * 40), heads)
    assert [(link.number, link.found_in) for link in links] == [(21, "pull_ref"), (22, "pull_ref")]


@given(st.text())
def test_any_message_gives_links_in_one_order(message: str) -> None:
    links = find_links(message)
    assert list(links) == sorted(links, key=lambda link: (-link.confidence, link.number))
    assert len({link.number for link in links}) == len(links)
