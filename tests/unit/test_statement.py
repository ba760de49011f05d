"""Statements come from the best source there is, and tell nothing of the fix."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.records.task import StatementSource
from task_miner.statement import FLAGS, StatementMaterial, choose_statement, clean

LONG = "The parser loses the last line when the input does not end with a newline. " * 4


@pytest.mark.parametrize(
    ("material", "source"),
    [
        (StatementMaterial(issue=LONG, pull_request=LONG, changelog=LONG, message=LONG), StatementSource.ISSUE),
        (StatementMaterial(pull_request=LONG, changelog=LONG, message=LONG), StatementSource.PULL_REQUEST),
        (StatementMaterial(changelog="* The last line of input is kept.", message=LONG), StatementSource.CHANGELOG),
        (StatementMaterial(message=LONG), StatementSource.COMMIT_MESSAGE),
        (StatementMaterial(message="Fix it"), StatementSource.TEST_REPORT),
        (StatementMaterial(issue="(#3)", message="Fix"), StatementSource.TEST_REPORT),
    ],
)
def test_the_best_source_wins(material: StatementMaterial, source: StatementSource) -> None:
    assert choose_statement(material).source is source


def test_whatever_tells_the_fix_is_taken_out() -> None:
    text = (
        "The loader fails on empty files (#12), see https://example.org/a/b/pull/12 and 1a2b3c4d5e6f.\n"
        "Fixes #11\nIt is in src/pkg/loader.py, shown by test_empty_file in test_loader.py.\n"
        "Signed-off-by: Somebody <a@example.org>\n" + LONG
    )
    material = StatementMaterial(
        issue=text,
        project="pkg",
        hidden_names=frozenset({"test_empty_file", "test_loader.py"}),
        fix_paths=("src/pkg/loader.py",),
    )
    said = choose_statement(material).text
    for secret in (
        "#12",
        "#11",
        "pull/12",
        "1a2b3c4d5e6f",
        "loader.py",
        "test_empty_file",
        "Signed-off",
        "a@example.org",
    ):
        assert secret not in said
    assert "The loader fails on empty files" in said


def test_a_generated_statement_describes_failures_without_naming_tests() -> None:
    failures = {"tests/test_a.py::TestX::test_keeps_last_line[no newline]": "...\nE   AssertionError: assert 2 == 3"}
    said = choose_statement(StatementMaterial(message="Fix", failures=failures, project="pkg"))
    assert "keeps last line (case no newline)" in said.text
    assert "assert 2 == 3" in said.text
    assert "test_keeps_last_line" not in said.text
    assert "test_a.py" not in said.text
    assert "generated" in said.flags


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("Keep `f()` ([#5](https://x.org/a/b/issues/5), [#6](https://x.org/a/b/pull/6)).", "Keep `f()`."),
        (
            "As the fix for [#5](https://x.org/a/b/pull/5) did. ([#6](https://x.org/a/b/pull/6))",
            "As the fix for [...] did.",
        ),
        ("As `#5 <https://x.org/a/b/issues/5>`_ was, #6", "As [...] was,"),
        ("#12: Keep it [#13]", "Keep it"),
        ("See [the manual](https://x.org/manual) and f[#].", "See [the manual](https://x.org/manual) and f[#]."),
    ],
)
def test_links_to_the_fix_leave_no_empty_brackets(said: str, left: str) -> None:
    assert clean(said, StatementMaterial()) == left


def test_a_generated_statement_is_the_same_in_every_run() -> None:
    def said(address: str, folder: str) -> str:
        failure = f"E   assert <Box at {address}> is None\nE   FileNotFoundError: {folder}/test_x0/file"
        return choose_statement(StatementMaterial(message="Fix", failures={"t.py::test_box": failure})).text

    text = said("0x7f0123456789", "/tmp/pytest-of-root/pytest-0")  # noqa: S108 -- what pytest prints
    assert text == said("0x7fabcdefabcd", "/tmp/pytest-of-me/pytest-17")  # noqa: S108 -- what pytest prints
    assert "<Box at 0x...> is None" in text


def test_a_short_message_is_told_whole_before_the_failures() -> None:
    material = StatementMaterial(
        message="Keep the order\n\nKeys were sorted.\n\nCloses #5", failures={"t.py::test_x": ""}
    )
    assert "known as: Keep the order\n\nKeys were sorted.\n\n- x" in choose_statement(material).text


@pytest.mark.parametrize(
    ("failure", "told", "says_what"),
    [
        ("E   assert 2 == 3\nE   Full diff:\nE   - 2", "assert 2 == 3", True),
        ("E   AssertionError\n| Expected: 3\n| Got: 2", "Expected: 3", True),
        ("E   AssertionError\nE   ", "", False),
        ("E   KeyError: 'x'\n| noise", "KeyError: 'x'", True),
    ],
)
def test_a_failure_is_told_by_what_it_says_or_else_by_what_was_printed(
    failure: str, told: str, *, says_what: bool
) -> None:
    said = choose_statement(StatementMaterial(message="Fix", failures={"t.py::test_it": failure}))
    assert told in said.text
    assert not {"Full diff", "noise", "AssertionError"} & set(said.text.split())
    assert ("no_expected_behaviour" not in said.flags) is says_what


def test_tests_that_cannot_be_loaded_are_told_once_and_not_by_their_path() -> None:
    failures = dict.fromkeys(("tests/test_a.py", "tests/test_b.py"), "E   ImportError: cannot import name 'x'")
    said = choose_statement(StatementMaterial(message="Fix", failures=failures)).text
    assert said.count("cannot even be loaded:\n\n      ImportError: cannot import name 'x'") == 1
    assert "test_" not in said


def test_a_merge_is_not_told_twice() -> None:
    message = "Merge pull request #4 from a/b\n\nKeep the order\n\nKeep the order\n\nOf keys."
    assert choose_statement(StatementMaterial(message=message)).text.count("Keep the order") == 1


def test_hidden_tests_and_the_fix_are_called_what_they_are() -> None:
    material = StatementMaterial(hidden_names=frozenset({"test_x"}), fix_paths=("src/a.py",))
    assert clean("Adds test_x for src/a.py.", material) == "Adds a test for the code."
    assert clean("See `tests.T.test_x` and T.test_x: test_xy.", material) == "See a test and a test: test_xy."


@given(
    st.builds(
        StatementMaterial,
        issue=st.none() | st.text(),
        changelog=st.text(),
        message=st.text(),
        failures=st.dictionaries(st.text(), st.text(), max_size=3),
        fix_paths=st.tuples(st.text(min_size=1)),
    )
)
def test_a_statement_is_never_empty_and_its_flags_are_known(material: StatementMaterial) -> None:
    statement = choose_statement(material)
    assert len(statement.text.split()) > 20
    assert set(statement.flags) <= set(FLAGS)


def test_a_paragraph_that_quotes_the_fix_is_left_out_and_the_rest_stays() -> None:
    line = "__class_getitem__ = classmethod(types.GenericAlias)"
    message = (
        "Add generic types to peekable\n\nSubscripting peekable raises a TypeError, though it works for iterators of "
        "the standard library, and people who annotate their code need it to work the same way for this one.\n\n"
        "Adds `__class_getitem__ =\n  classmethod(types.GenericAlias)` to it.\n\nIt also has a stub and is documented."
    )
    found = choose_statement(StatementMaterial(message=message, project="p", fix_lines=(line,)))
    assert found.source is StatementSource.COMMIT_MESSAGE
    assert "GenericAlias" not in found.text
    assert "Subscripting peekable raises a TypeError" in found.text
    assert "documented" in found.text
