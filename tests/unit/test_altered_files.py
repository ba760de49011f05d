"""Altered test files: edits keep lines, archives keep everything else, canaries look like their neighbours."""

import ast
import marshal
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.records.trust import Edit
from envfarm_verifiers.canaries import add_canaries
from envfarm_verifiers.test_files import Placement, apply_edits, read_reference
from task_miner.packaging.archive import ArchiveEntry, write_archive

TESTS = b"def test_add_numbers():\n    assert 1 + 1 == 2\n\n\ndef test_more():\n    assert True"
ENTRIES = (
    ArchiveEntry("tests/test_a.py", TESTS),
    ArchiveEntry("tests/run.sh", b"true\n", executable=True),
    ArchiveEntry("tests/link", b"", link_target="test_a.py"),
)


def edit(start: int, end: int, text: str) -> Edit:
    return Edit(path="a.py", start=start, end=end, text=text)


def test_edits_of_a_file_are_applied_together_whatever_their_order() -> None:
    found = apply_edits({"a.py": b"one two three", "b.py": b""}, [edit(8, 13, "3"), edit(0, 3, "1"), edit(0, 3, "1")])
    assert found == {"a.py": b"1 two 3"}


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ([edit(0, 5, "x"), edit(4, 6, "y")], "overlaps"),
        ([edit(3, 2, "x")], "overlaps"),
        ([edit(0, 99, "x")], "past the end"),
        ([edit(0, 3, "a\n")], "number of lines"),
    ],
)
def test_edits_that_would_move_lines_or_each_other_are_refused(edits: list[Edit], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        apply_edits({"a.py": b"one two three"}, edits)


def test_a_placement_differs_from_the_archive_in_the_altered_file_alone() -> None:
    archive = write_archive(iter(ENTRIES), modified_at=7)
    placement = Placement(archive=archive, protected=("tests/**",), altered={"tests/test_a.py": b"changed"})
    assert placement.contents() == {**read_reference(archive), "tests/test_a.py": b"changed"}
    members = {member[0]: member[1:] for member in placement.job()["members"]}
    assert members.keys() == {entry.path for entry in ENTRIES}
    assert marshal.dumps(placement.job(), 2)
    assert members["tests/run.sh"][0] & 0o100
    assert members["tests/link"][1:] == ("test_a.py", b"")
    assert members["tests/test_a.py"][1:] == (None, b"changed")


def test_a_file_that_the_archive_lacks_is_no_test_file() -> None:
    with pytest.raises(KeyError):
        Placement(archive=write_archive(iter(ENTRIES), modified_at=0), protected=(), altered={"none.py": b""}).job()


@given(st.integers(), st.sampled_from([TESTS, TESTS + b"\n", TESTS.replace(b"\n", b"\r\n"), b"", b"x = 1\n"]))
def test_a_canary_fails_stands_at_the_end_and_has_a_name_of_its_own(seed: int, content: bytes) -> None:
    chance = random.Random(seed)
    found = add_canaries(["a.py"], {"a.py": content}, chance.randrange)
    (name,) = found.ids
    changed = found.files["a.py"]
    assert changed.startswith(content)
    assert content.decode().count(f"def {name.split('::')[1]}(") == 0
    functions = {node.name: node for node in ast.parse(changed).body if isinstance(node, ast.FunctionDef)}
    space: dict[str, object] = {}
    exec(compile(changed, "a.py", "exec"), space)  # noqa: S102 -- the file that was just made
    with pytest.raises(AssertionError):
        space[name.split("::")[1]]()  # type: ignore[operator] -- a test function
    assert functions[name.split("::")[1]].name.startswith("test_")


def test_at_most_a_few_files_carry_a_canary() -> None:
    files = {f"t{number}.py": TESTS for number in range(9)}
    assert len(add_canaries(sorted(files), files, random.Random(1).randrange).ids) == 3
    assert add_canaries([], files, random.Random(1).randrange).ids == ()
