"""Our tasks as SWE-bench rows and repositories come back with every field and every byte."""

import json
import re
import shlex
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from envfarm.errors import OutputFolderError, TaskError
from envfarm.formats.foreign_rows import read_rows
from envfarm.formats.json_text import parse_json, render_json
from envfarm.formats.predictions import read_predictions, write_predictions
from envfarm.formats.swebench import read_repository, to_row, write_repository
from envfarm.formats.swebench_rows import render_eval, text_of, write_lines, write_rows
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import (
    FIX_PATCH,
    TEST_PATCH,
    Environment,
    SourceCommit,
    Statement,
    StatementSource,
    Task,
    TaskPackage,
    TestPlan,
)

FIRST_FIELDS = {
    *("repo", "instance_id", "base_commit", "patch", "test_patch", "problem_statement", "hints_text", "created_at"),
    *("version", "FAIL_TO_PASS", "PASS_TO_PASS", "environment_setup_commit"),
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["2024-01-01", "yes", "~", "0x1f", "1e3", ": #", "\x85\u2028\ufeff", "\0\x7f", "- a", "null", "'\"", "\r\n"]
)
WORDS = st.lists(TEXT, max_size=3).map(tuple)
PATCH = (
    st.binary(max_size=30)
    | TEXT.map(str.encode)
    | st.sampled_from([b"\xff\n", b"\xed\xa0\x80", b"a\r\nb", b"$x `y`\n"])
)
NAME = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,12}", fullmatch=True)


def package_of(
    name: str, text: str, words: tuple[str, ...], fix: bytes, hidden: bytes, *, paths: tuple[str, ...] = ("tests/a.py",)
) -> TaskPackage:
    task = Task(
        task_id=name,
        statement=Statement(text=text, source=StatementSource.ISSUE),
        source=SourceCommit(
            project=text, base_commit="0" * 40, fix_commit="1" * 40, committed_at="2024-01-01", unit_kind="plain"
        ),
        environment=Environment(environment_id="py3.12-0", interpreter="3.12", lock="", lock_sha256=""),
        tests=TestPlan(paths=paths, fail_to_pass=words, pass_to_pass=words[:1]),
    )
    files = {FIX_PATCH: fix, TEST_PATCH: hidden, "environment/Dockerfile": b"FROM a\n", "environment/x/\xe4": hidden}
    return TaskPackage(task=task, files=files, digest="sha256:0")


PACKAGES = st.lists(
    st.builds(package_of, NAME, TEXT, WORDS, PATCH, PATCH), max_size=3, unique_by=lambda package: package.task.task_id
)


@given(PACKAGES)
def test_rows_come_back_with_every_field_and_byte(packages: list[TaskPackage]) -> None:
    with tempfile.TemporaryDirectory() as name:
        assert write_rows(packages, Path(name) / "rows.jsonl") == len(packages)
        rows = list(read_rows(Path(name) / "rows.jsonl"))
        assert [path.name for path in Path(name).iterdir()] == ["rows.jsonl"]
    assert [row.row for row in rows] == [to_row(package) for package in packages]
    for row, package in zip(rows, packages, strict=True):
        assert set(row.row) >= FIRST_FIELDS
        assert row.name == package.task.task_id
        assert row.facts.shape == "swe-bench"
        assert row.facts.fields["base_commit"] == "base_commit"
        assert row.fail_to_pass == tuple(dict.fromkeys(package.task.tests.fail_to_pass))
        assert row.pass_to_pass == package.task.tests.pass_to_pass
        for field, path in (("patch", FIX_PATCH), ("test_patch", TEST_PATCH)):
            assert row.row[field].encode("utf-8", "surrogateescape") == package.files[path]


@given(PACKAGES)
@settings(max_examples=25)
def test_a_repository_comes_back_with_every_field_and_file(packages: list[TaskPackage]) -> None:
    with tempfile.TemporaryDirectory() as name:
        assert write_repository(packages, Path(name) / "out") == len(packages)
        found = list(read_repository(Path(name) / "out"))
    assert sorted(row.name for row, _ in found) == sorted(package.task.task_id for package in packages)
    by_name = {package.task.task_id: package for package in packages}
    for row, files in found:
        package = by_name[row.name]
        wanted = to_row(package) | {
            "FAIL_TO_PASS": list(package.task.tests.fail_to_pass),
            "PASS_TO_PASS": list(package.task.tests.pass_to_pass),
        }
        assert {key: row.row[key] for key in wanted if key in row.row} == {
            key: value for key, value in wanted.items() if key in row.row
        }
        assert set(wanted) - set(row.row) == {"hints_text", "environment_setup_commit", "envfarm_digest"}
        assert (files["gold.patch"], files["test.patch"]) == (package.files[FIX_PATCH], package.files[TEST_PATCH])
        assert files["x/\xe4"] == package.files["environment/x/\xe4"]


def is_coded(patch: bytes) -> bool:
    """Say whether a patch stands in base64, which brings it to the byte; else it ends with a line break."""
    return b"\0" in patch or text_of(patch).encode("utf-8", "replace") != patch


@given(PATCH)
@example(b"a\0b\n")
@example(b"END_OF_0\n'\nEOF\n")
@example(b"")
@example(b"no line break")
@settings(max_examples=12)
def test_eval_script_carries_the_hidden_tests_to_the_byte(patch: bytes) -> None:
    script = render_eval(package_of("a", "", (), b"", patch)).decode()
    cut = script.partition("# Files that the test patch touches")[0].replace("cd /workspace\n", "")
    done = subprocess.run(["bash", "-c", cut + 'cat "$test_patch"; rm "$test_patch"'], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (patch if not patch or patch.endswith(b"\n") or is_coded(patch) else patch + b"\n")


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8), min_size=1))
@settings(max_examples=25)
def test_eval_script_names_test_files_as_one_word_each(paths: list[str]) -> None:
    script = render_eval(package_of("a", "", (), b"", b"", paths=tuple(paths))).decode()
    command = script.partition("'>>>>> Start Test Output'\n")[2].partition("\nstatus=$?\n")[0]
    assert shlex.split(command)[-len(paths) :] == paths


ROWS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(ROWS | st.sampled_from(["\ud83d", "\udce4", {"\udfff": ["\ud800"]}]))
def test_json_text_comes_back_halves_of_characters_included(value: object) -> None:
    content = render_json(value)
    assert b"\n" not in content
    assert parse_json(content, "here") == value


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"9" * 5000, b"\xef\xbb\xbf1"])
def test_no_json_is_refused_by_its_place(content: bytes) -> None:
    with pytest.raises(TaskError, match=r"^here: it is no"):
        parse_json(content, "here")


def predict(patch: bytes) -> Submission:
    kind = SubmissionKind.PATCH if patch else SubmissionKind.NO_OP
    return Submission(task_id="a-1", kind=kind, patch=patch)


@given(st.lists(PATCH.map(predict), max_size=3), TEXT)
def test_predictions_come_back_to_the_byte(submissions: list[Submission], model: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        assert write_predictions(submissions, Path(name) / "p", model=model) == len(submissions)
        assert read_predictions(Path(name) / "p") == submissions
        told = [json.loads(line) for line in (Path(name) / "p").read_bytes().splitlines()]
    assert all(set(row) == {"instance_id", "model_name_or_path", "model_patch"} for row in told)


@given(ROWS)
def test_any_prediction_is_a_submission_or_refused_in_one_line(patch: object) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "p").write_bytes(render_json({"instance_id": "a", "model_patch": patch}))
        try:
            (found,) = read_predictions(Path(name) / "p")
        except TaskError as error:
            told = str(error)
        else:
            assert found.patch == (patch.encode() if isinstance(patch, str) else b"")
            return
    assert "model_patch of a" in told or "has no model_patch" in told
    assert "\n" not in told


def test_a_prediction_without_a_patch_is_refused_and_null_is_no_change(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b'{"instance_id": "a"}')
    with pytest.raises(TaskError, match="the prediction of a has no model_patch"):
        read_predictions(tmp_path / "p")
    (tmp_path / "p").write_bytes(b'{"instance_id": "a", "model_patch": null}\n{"instance_id":"b","prediction":"x"}')
    assert [(found.kind, found.patch) for found in read_predictions(tmp_path / "p")] == [
        ("no_op", b""),
        ("patch", b"x"),
    ]


def test_what_fails_half_way_leaves_the_older_file(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b"older")

    def lines() -> list[bytes]:
        message = "half way"
        raise ValueError(message)

    with pytest.raises(ValueError, match="half way"):
        write_lines((line for _ in range(2) for line in lines()), tmp_path / "rows")
    assert (tmp_path / "rows").read_bytes() == b"older"
    with pytest.raises(OutputFolderError, match="cannot be written"):
        write_lines([b""], tmp_path / "rows" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


REPOSITORY = {"task.yaml": b"instance_id: a\nrepo: b\n", "tests.json": b'{"FAIL_TO_PASS": []}', "gold.patch": b"\xff"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("task.yaml", b"- a", "no mapping of names"),
        ("task.yaml", b"1: a", "no mapping of names"),
        ("task.yaml", b"a: !!python/name:os.system ''", "no YAML"),
        ("task.yaml", b"a: !!bool maybe", "no YAML"),
        ("task.yaml", b"a: !!timestamp 2024-01-01", "no YAML"),
        ("task.yaml", b"a: &a [*a]", "no YAML"),
        ("task.yaml", b"\xff", "no YAML"),
        ("task.yaml", b"repo: b", "has no instance_id"),
        ("tests.json", b"[]", "no object"),
        ("tests.json", b"{", "no JSON"),
        ("tests.json", None, "it is missing"),
    ],
)
def test_a_damaged_repository_is_refused_by_the_file(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    folder = tmp_path / "tasks" / "one"
    folder.mkdir(parents=True)
    for path, text in (REPOSITORY | {name: content}).items():
        if text is not None:
            (folder / path).write_bytes(text)
    with pytest.raises(TaskError, match=rf"^tasks/one.*{said}") as caught:
        list(read_repository(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_folder_in_the_place_of_a_task_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tasks" / "one" / "task.yaml").mkdir(parents=True)
    with pytest.raises(TaskError, match=r"^tasks/one/task\.yaml: it is no file"):
        list(read_repository(tmp_path))


def test_bytes_that_are_no_utf8_are_text_and_come_back() -> None:
    assert text_of(b"a\xff") == "a\udcff"
    assert not re.search(rb"[\x80-\xff]", render_json(text_of(b"a\xff")))
