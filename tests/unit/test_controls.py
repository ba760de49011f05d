"""The gate's submissions are diffs that git applies, and carry what they say."""

import ast
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.audit.carrier import run_around
from envfarm.audit.file_diff import replace_file
from envfarm.grading.submission_patch import plan_submission
from envfarm.records.submission import SubmissionKind
from task_miner.quality import cheats
from task_miner.quality.controls import make_controls

SOURCES: dict[str, bytes | None] = {
    "pkg/a.py": b'"""Doc."""\nfrom __future__ import annotations\n\nX = 1\n',
    "pkg/b.py": b"Y = 1",
    "pkg/new.py": None,
    "pkg/z.py": b"Z = 1\r\n",
}
TESTS = {"tests/test_a.py": b"def test_a(): pass\n", "tests/deep/test_b.py": b"def test_b(): pass\n"}
CONFTESTS = {"tests/conftest.py": b"import os\n"}


def controls() -> dict[str, bytes]:
    made = make_controls("t", sources=SOURCES, tests=TESTS, conftests=CONFTESTS, deciding=("tests/test_a.py::test_a",))
    return {control.name: control.submission.patch for control in made}


def apply(folder: Path, patch: bytes) -> None:
    for path, content in {**SOURCES, **TESTS, **CONFTESTS}.items():
        if content is not None:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    subprocess.run(["git", "apply", "-p1", "--whitespace=nowarn", "-"], cwd=folder, input=patch, check=True)


def test_there_is_a_control_for_each_known_way_to_win() -> None:
    made = make_controls("t", sources=SOURCES, tests=TESTS)
    assert [control.name for control in made] == [
        "no_op",
        "conftest_rewrites_outcomes",
        "failing_tests_deleted",
        "module_exits_process",
        "forged_summary_text",
        "forged_summary_then_exit",
        "forged_report_records",
        "planted_reward_file",
    ]
    assert made[0].submission.kind is SubmissionKind.NO_OP
    assert {control.expected_reward for control in made} == {0.0}
    assert {control.submission.task_id for control in made} == {"t"}


def test_every_control_applies_to_the_base(tmp_path: Path) -> None:
    for name, patch in controls().items():
        if patch:
            (tmp_path / name).mkdir()
            apply(tmp_path / name, patch)
            assert plan_submission(patch, ()).refusal is None


def test_the_cheat_runs_first_in_each_module_that_carries_it(tmp_path: Path) -> None:
    apply(tmp_path, controls()["module_exits_process"])
    first = (tmp_path / "pkg" / "a.py").read_bytes()
    assert first.index(b"_exit(0)") > first.index(b"__future__")
    assert first.index(b"_exit(0)") < first.index(b"X = 1")
    assert (tmp_path / "pkg" / "b.py").read_bytes() == cheats.EXIT + b"Y = 1"
    assert b"_exit(0)\r\n" in (tmp_path / "pkg" / "z.py").read_bytes()
    assert not (tmp_path / "pkg" / "new.py").exists()  # three modules carry enough


def test_a_module_that_the_fix_adds_can_carry_the_cheats(tmp_path: Path) -> None:
    made = make_controls("t", sources={"pkg/new.py": None}, tests={})
    apply(tmp_path, made[2].submission.patch)
    assert (tmp_path / "pkg" / "new.py").read_bytes() == cheats.EXIT


def test_conftests_are_altered_or_added_at_the_root_and_beside_the_tests(tmp_path: Path) -> None:
    apply(tmp_path, controls()["conftest_rewrites_outcomes"])
    for path in ("conftest.py", "tests/conftest.py", "tests/deep/conftest.py"):
        assert b"pytest_runtest_makereport" in (tmp_path / path).read_bytes()
    assert (tmp_path / "tests" / "conftest.py").read_bytes().endswith(b"import os\n")


def test_the_deciding_tests_are_deleted(tmp_path: Path) -> None:
    apply(tmp_path, controls()["failing_tests_deleted"])
    assert not (tmp_path / "tests" / "test_a.py").exists()


def test_without_a_module_and_tests_what_is_left_is_still_tried() -> None:
    assert [made.name for made in make_controls("t", sources={}, tests={})] == ["no_op", "conftest_rewrites_outcomes"]


@pytest.mark.parametrize(
    "payload", [cheats.CONFTEST, cheats.EXIT, cheats.FORGED_SUMMARY, cheats.PLANTED_FILES, cheats.forged_records(["a"])]
)
def test_every_cheat_is_python(payload: bytes) -> None:
    ast.parse(payload)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b"P\n"),
        (b"x = 1\n", b"P\nx = 1\n"),
        (b'"""Doc."""', b'"""Doc."""\nP\n'),
        (b"from __future__ import a, \\\n  b\nx = 1\n", b"from __future__ import a, \\\n  b\nP\nx = 1\n"),
        (b"print 1\n", b"P\nprint 1\n"),
    ],
)
def test_a_payload_comes_as_early_as_python_lets_it(content: bytes, expected: bytes) -> None:
    assert run_around(content, b"P\n") == expected


LINES = st.lists(st.sampled_from([b"a", b"b\r", b"", b"\x0c", b"+x", b"-- y", b"\xff", b"\\ No newline"]), max_size=5)
CONTENTS = st.none() | st.tuples(LINES, st.booleans()).map(lambda made: b"\n".join(made[0]) + b"\n" * made[1])


@given(old=CONTENTS, new=CONTENTS, path=st.sampled_from(["a.py", "a b.py", "ü/ä.py", 'q"\t.py']))
def test_a_replacing_diff_is_read_back_as_one_whole_section(old: bytes | None, new: bytes | None, path: str) -> None:
    if old == new or (not old and not new):
        return
    plan = plan_submission(replace_file(path, old, new), ())
    assert plan.refusal is None
    assert not plan_submission(replace_file(path, old, new), (path.replace("*", "?"),)).kept_patch


@pytest.mark.parametrize("path", ["a.py", "a b.py", "ü/ä.py", 'q"\t.py'])
@pytest.mark.parametrize(("old", "new"), [(b"a\nb", b"b\r\nc"), (None, b"x"), (b"x\n", None), (b"\x0c\n", b"\xff\n")])
def test_git_makes_of_a_replacing_diff_what_it_says(
    tmp_path: Path, path: str, old: bytes | None, new: bytes | None
) -> None:
    target = tmp_path / path
    target.parent.mkdir(exist_ok=True)
    if old is not None:
        target.write_bytes(old)
    subprocess.run(
        ["git", "apply", "-p1", "--whitespace=nowarn", "-"],
        cwd=tmp_path,
        input=replace_file(path, old, new),
        check=True,
    )
    assert (target.read_bytes() if target.exists() else None) == new
