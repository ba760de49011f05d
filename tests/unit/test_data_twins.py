"""Alterations of data files, and whose twins they are by what runs showed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.records.test_report import TestDetail, TestOutcome, TestReport
from envfarm.records.trust import Edit, Twin, TwinKind
from task_miner.quality.data_twins import data_files, failing_tests, group_tests, propose_alterations

OLD = b"first\n.\n<p>first</p>\n\n"
NEW = OLD + b"second one\n.\n<p>second one</p>\n\nthird 3\n.\n<p>third 3</p>\n"


def altered(path: str, old: bytes | None, new: bytes) -> list[bytes]:
    edits = propose_alterations(path, old, new)
    return [new[: edit.start] + edit.text.encode() + new[edit.end :] for edit in edits]


def test_only_new_lines_are_altered_each_in_one_word_and_what_ends_a_block_comes_first() -> None:
    found = altered("cases.txt", OLD, NEW)
    changed = []
    for content in found:
        assert content.startswith(OLD)
        lines = zip(NEW.splitlines(), content.splitlines(), strict=True)
        ((number, (before, after)),) = [(n, pair) for n, pair in enumerate(lines, 1) if pair[0] != pair[1]]
        assert before != after
        changed.append(number)
    assert changed[:2] == [7, 11]
    assert sorted(changed) == [5, 7, 9, 11]


@pytest.mark.parametrize(("old", "new"), [(NEW, NEW), (None, b"\xff\xfe\x00"), (None, b""), (None, b"- .\n+++\n")])
def test_what_says_nothing_new_is_not_altered(old: bytes | None, new: bytes) -> None:
    assert propose_alterations("a.txt", old, new) == ()


@given(st.text(max_size=60), st.text(max_size=60))
def test_an_alteration_keeps_the_lines_and_is_one(old: str, new: str) -> None:
    content = new.encode()
    for edit in propose_alterations("a.txt", old.encode(), content):
        made = content[: edit.start] + edit.text.encode() + content[edit.end :]
        assert made != content
        assert len(made.decode().splitlines()) == len(new.splitlines())


EDIT = Edit(path="cases.txt", start=1, end=2, text="x")
IDS = ("t.py::test_a", "t.py::test_b", "t.py::test_c")


def report(*failed: str, error: str = "AssertionError", **changes: object) -> TestReport:
    outcomes = {name: TestOutcome.FAILED if name in failed else TestOutcome.PASSED for name in IDS}
    details = {name: TestDetail(message="", seconds=0.0, error=error) for name in failed}
    facts = {"collected": IDS, "session_ended": True} | changes
    return TestReport(outcomes=outcomes, details=details, **facts)  # type: ignore[arg-type]


def test_an_alteration_belongs_to_the_tests_that_it_makes_fail() -> None:
    wanted = frozenset(IDS[:2])
    found = failing_tests(EDIT, wanted, report(), report(*IDS[:2]))
    assert found is not None
    assert found.failures == dict.fromkeys(IDS[:2], "AssertionError")
    refused = {
        "nothing fails": report(),
        "a test that does not decide fails": report(IDS[0], IDS[2]),
        "another error": report(IDS[0], error="KeyError"),
        "another collection": report(IDS[0], collected=IDS[:2]),
        "cut short": report(IDS[0], session_ended=False),
    }
    assert {why: failing_tests(EDIT, wanted, report(), seen) for why, seen in refused.items()} == dict.fromkeys(refused)


def twin(*names: str) -> Twin:
    failures = dict.fromkeys(names, "AssertionError")
    return Twin(kind=TwinKind.LITERAL, line=0, edits=(EDIT,), strong=False, failures=failures)


def test_tests_that_fail_together_are_one_and_have_two_twins_at_most() -> None:
    tests = group_tests([twin(*IDS[:2]), twin(IDS[2]), twin(*IDS[:2]), twin(IDS[0]), twin(*IDS[:2])], IDS)
    assert [(test.fail_to_pass, len(test.twins)) for test in tests] == [(IDS[:2], 2), (IDS[2:], 1)]


def test_data_is_what_the_patch_changes_and_is_no_source_or_setting() -> None:
    reference = {"t.py": b"1", "a.txt": b"1", "b.txt": b"2", "c.json": b"3", "setup.cfg": b"4"}
    assert data_files(reference, {"b.txt": b"2"}) == ("a.txt", "c.json")
