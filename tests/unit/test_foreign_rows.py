"""Rows of anybody's data set are kept to the byte and read as far as they are known; nothing in them is an order."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envfarm.errors import OutputFolderError, TaskError
from envfarm.formats.foreign_rows import (
    FACTS_FILE,
    ROW_FILE,
    parse_row,
    read_imported,
    read_rows,
    write_foreign,
)
from envfarm.formats.row_shapes import read_facts

SWE_BENCH = {
    "repo": "a/b",
    "instance_id": "a__b-1",
    "base_commit": "0",
    "patch": "p",
    "test_patch": "t",
    "problem_statement": "s",
    "FAIL_TO_PASS": '["t::a", "t::b"]',
    "PASS_TO_PASS": "[]",
}
SHAPES: dict[str, tuple[dict[str, Any], str, tuple[str, ...], tuple[str, ...], dict[str, str]]] = {
    "swe-bench of old": (
        SWE_BENCH,
        "swe-bench",
        ("t::a", "t::b"),
        (),
        {"patch": "patch", "statement": "problem_statement"},
    ),
    "swe-bench of now": (
        SWE_BENCH | {"FAIL_TO_PASS": ["t::a"], "PASS_TO_PASS": ["t::c"], "image": "i"},
        "swe-bench",
        ("t::a",),
        ("t::c",),
        {"image": "image"},
    ),
    "swe-rebench": (SWE_BENCH | {"install_config": {}}, "swe-rebench", ("t::a", "t::b"), (), {}),
    "swe-rebench 2": (
        SWE_BENCH | {"image_name": "i", "language": "go", "interface": ""},
        "swe-rebench-2",
        ("t::a", "t::b"),
        (),
        {"image": "image_name", "language": "language"},
    ),
    "swe-bench-live": (
        SWE_BENCH | {"test_cmds": ["rm -rf /"], "log_parser": "import os", "docker_image": "i"},
        "swe-bench-live",
        ("t::a", "t::b"),
        (),
        {"image": "docker_image"},
    ),
    "multi-swe-bench": (
        {
            "org": "o",
            "repo": "r",
            "number": 7,
            "fix_patch": "p",
            "test_patch": "t",
            "body": "s",
            "base": {"sha": "0"},
            "f2p_tests": {"a": {"run": "x"}},
            "s2p_tests": {"b": {}},
            "n2p_tests": {"c": {}},
            "p2p_tests": {"d": {}},
        },
        "multi-swe-bench",
        ("a", "b", "c"),
        ("d",),
        {"patch": "fix_patch", "statement": "body", "base_commit": "base"},
    ),
    "r2e-gym": (
        {"repo_name": "r", "commit_hash": "0" * 40, "expected_output_json": '{"a": "PASSED", "b": "FAILED"}'},
        "r2e-gym",
        (),
        ("a",),
        {"repo": "repo_name", "base_commit": "commit_hash"},
    ),
    "swe-smith": (
        {"instance_id": "a", "patch": "p", "FAIL_TO_PASS": ["a"], "PASS_TO_PASS": [], "image_name": "i"},
        "swe-smith",
        ("a",),
        (),
        {"image": "image_name"},
    ),
    "lines of tests": (SWE_BENCH | {"FAIL_TO_PASS": "t::a\nt::b\n\n"}, "swe-bench", ("t::a", "t::b"), (), {}),
    "nothing known": ({"id": "x", "what": 1}, "unknown", (), (), {}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_rows_of_the_known_data_sets_are_understood(name: str) -> None:
    row, shape, fails, passes, fields = SHAPES[name]
    read = parse_row(row, "here")
    assert (read.facts.shape, read.fail_to_pass, read.pass_to_pass) == (shape, fails, passes)
    assert fields.items() <= read.facts.fields.items()
    assert all(field in row for field in read.facts.fields.values())
    assert read.facts.told()["runnable"] is False
    assert read.facts.notes[0].startswith("not runnable")


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"instance_id": "a/b-1"}, "a__b-1"),
        ({"instance_id": 1, "id": "x"}, "x"),
        ({"org": "o", "repo": "r", "number": 7}, "o__r-7"),
        ({"org": "o", "repo": "r"}, "o__r-0"),
        ({"repo_name": "r", "commit_hash": "0123456789abcdef"}, "r-0123456789ab"),
    ],
)
def test_a_row_is_named_by_what_names_it(row: dict[str, Any], name: str) -> None:
    assert parse_row(row, "here").name == name


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        "a",
        {},
        {"instance_id": ""},
        {"instance_id": ".."},
        {"instance_id": "../../etc"},
        {"instance_id": ".hidden"},
        {"instance_id": "a\n"},
        {"instance_id": "a" * 201},
        {"instance_id": "\ud83d"},
        {"instance_id": "a b"},
        {"instance_id": ["a"]},
        {"org": "o", "repo": "r", "number": {"a": "/"}},
        {"org": "o", "repo": ["r"]},
        {"repo_name": "r", "commit_hash": 1},
    ],
)
def test_a_row_without_a_name_for_a_folder_is_refused(wrong: object) -> None:
    with pytest.raises(TaskError, match=r"^here: it (is no JSON object|has no instance_id that could name a folder)$"):
        parse_row(wrong, "here")


NUMBERS = st.integers() | st.floats(allow_nan=False)
TEXT = st.text(max_size=8) | st.sampled_from(
    ["\ud83d", '["a"]', '{"a": "passed"}', "[", "a\nb", "[" * 5000, "9" * 5000]
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted({key for row, *_ in SHAPES.values() for key in row})
ROW = st.dictionaries(st.sampled_from(FIELDS) | TEXT, VALUES, max_size=8)


@given(ROW)
@settings(max_examples=200)
def test_whatever_a_row_holds_its_facts_can_be_read(row: dict[str, Any]) -> None:
    facts = read_facts(row)
    assert all(isinstance(test, str) for test in facts.fail_to_pass + facts.pass_to_pass)
    assert len(set(facts.fail_to_pass)) == len(facts.fail_to_pass)
    assert set(facts.fields.values()) <= set(row)
    json.dumps(facts.told())


NAMED = st.builds(lambda row, name: row | {"instance_id": name}, ROW, st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True))


@given(st.lists(NAMED, max_size=3, unique_by=lambda row: row["instance_id"]), st.sampled_from([None, 1]), st.booleans())
@settings(max_examples=60)
def test_rows_come_back_as_they_came(rows: list[dict[str, Any]], indent: int | None, ascii_only: bool) -> None:  # noqa: FBT001
    lines = [json.dumps(row, separators=(" ,", " :")) + "  " for row in rows]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lines").write_text("\r\n\n".join(lines))
        (folder / "list").write_text(json.dumps(rows, indent=indent, ensure_ascii=True))
        for source in ("lines", "list"):
            assert write_foreign(read_rows(folder / source), folder / f"{source}.out") == len(rows)
        for row, line in zip(rows, lines, strict=True):
            for source in ("lines", "list"):
                imported = folder / f"{source}.out" / row["instance_id"]
                assert read_imported(imported).row == row
                assert json.loads((imported / FACTS_FILE).read_bytes())["schema"] == "envfarm.import/1"
            assert (folder / "lines.out" / row["instance_id"] / ROW_FILE).read_text() == line.strip() + "\n"
        assert sorted(path.name for path in folder.iterdir()) == ["lines", "lines.out", "list", "list.out"]


@given(
    st.binary(max_size=60)
    | ROW.map(lambda row: json.dumps(row).encode())
    | VALUES.map(lambda x: json.dumps([x]).encode())
)
@settings(max_examples=150)
def test_any_file_is_rows_or_refused_by_its_line(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "rows").write_bytes(content)
        try:
            write_foreign(read_rows(Path(name) / "rows"), Path(name) / "out")
        except TaskError as error:
            told = str(error)
        except OutputFolderError as error:
            told = f"{name}/rows: {error}"
        else:
            return
        assert [path.name for path in Path(name).iterdir()] == ["rows"]
    assert told.startswith(f"{name}/rows")
    assert "\n" not in told


@pytest.mark.parametrize("depth", [100, 500, 900, 990, 5000, 100_000])
@pytest.mark.parametrize("frame", ["{}", "[{}]"])
def test_deep_rows_are_kept_or_refused(tmp_path: Path, depth: int, frame: str) -> None:
    row = '{"instance_id":"a","x":' + "[" * depth + "]" * depth + "}"
    (tmp_path / "rows").write_text(row if frame == "{}" else f"[{row}]")
    try:
        write_foreign(read_rows(tmp_path / "rows"), tmp_path / "out")
    except TaskError as error:
        told = str(error)
    else:
        told = "it is no JSON, or kept"
        assert (tmp_path / "out" / "a" / ROW_FILE).read_text().replace(" ", "") == row + "\n"
    assert "it is no JSON" in told


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PAR1\x15\x04", "it is a Parquet file"),
        (b'{"instance_id":"a"}\n{"instance_id"', ":2: it is no JSON"),
        (b'[{"instance_id":"a"}, 1]', "row 2: it is no JSON object"),
        (b"\xff\n", ":1: it is not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "rows").write_bytes(content)
    with pytest.raises(TaskError, match=said):
        list(read_rows(tmp_path / "rows"))


def test_two_rows_of_one_name_and_a_full_folder_are_refused(tmp_path: Path) -> None:
    rows = [parse_row({"instance_id": "a"}, "here")] * 2
    with pytest.raises(OutputFolderError, match="two rows are named a"):
        write_foreign(rows, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "theirs").touch()
    with pytest.raises(OutputFolderError, match="not empty"):
        write_foreign(rows[:1], tmp_path)


def test_an_imported_row_that_is_gone_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"\n \n"):
        (tmp_path / ROW_FILE).write_bytes(content)
        with pytest.raises(TaskError, match="it is empty"):
            read_imported(tmp_path)
    (tmp_path / ROW_FILE).unlink()
    with pytest.raises(TaskError, match="cannot be read"):
        read_imported(tmp_path)


def test_files_of_a_row_lie_beside_it(tmp_path: Path) -> None:
    rows = [parse_row({"instance_id": "a"}, "here"), parse_row({"instance_id": "b"}, "here")]
    write_foreign(rows, tmp_path / "out", files={"a": {"x/\xe4": b"1"}})
    assert (tmp_path / "out" / "a" / "files" / "x" / "\xe4").read_bytes() == b"1"
    assert sorted(path.name for path in (tmp_path / "out" / "b").iterdir()) == [FACTS_FILE, ROW_FILE]
