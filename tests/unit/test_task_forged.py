"""Task folders of somebody who knows how task.toml is sealed: every digest is right, and what is said is not."""

import hashlib
import json
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from envfarm.errors import TaskError
from envfarm.formats.harbor import read_package, write_package
from envfarm.formats.harbor_toml import _with_seal, parse_task_toml
from envfarm.records.task import (
    EXPECTED_FILE,
    FIX_PATCH,
    LOCK_FILE,
    REFERENCE_ARCHIVE,
    STATEMENT_FILE,
    TASK_FILE,
    TEST_PATCH,
    WORKSPACE_ARCHIVE,
    Environment,
    SourceCommit,
    Statement,
    StatementSource,
    Task,
    TaskPackage,
    TestPlan,
    ValidationRecord,
)
from task_miner.packaging.archive import ArchiveEntry, write_archive
from task_miner.packaging.package import PackageParts, build_package

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PLAIN = st.recursive(
    TEXT | st.booleans() | st.integers(-(1 << 63), 1 << 63) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def simple_task() -> Task:
    return Task(
        task_id="project-0123456789ab",
        statement=Statement(text="It fails.", source=StatementSource.ISSUE),
        source=SourceCommit(
            project="project", base_commit="0" * 40, fix_commit="1" * 40, committed_at="2024", unit_kind="plain"
        ),
        environment=Environment(environment_id="py3.12-0", interpreter="3.12", lock="a==1\n", lock_sha256="0"),
        tests=TestPlan(paths=("tests/test_a.py",), fail_to_pass=("tests/test_a.py::test_a",)),
    )


@pytest.fixture(scope="module")
def package() -> TaskPackage:
    archive = write_archive([ArchiveEntry("src/a.py", b"x = 1\n")], modified_at=0)
    return build_package(
        PackageParts(
            task=simple_task(),
            validation=ValidationRecord(runs=(), classes={}),
            workspace_archive=archive,
            reference_archive=archive,
            test_patch=b"diff --git a/t b/t\n",
            fix_patch=b"diff --git a/a b/a\n",
            project_files={"a.pth": b""},
        )
    )


@pytest.fixture(scope="module")
def toml(package: TaskPackage) -> str:
    return package.files[TASK_FILE].decode()


def resealed(document: dict[str, Any], files: dict[str, bytes]) -> dict[str, bytes]:
    """Return files as somebody would publish them who knows how task.toml is sealed."""
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in files.items() if path != TASK_FILE}
    metadata = document.get("metadata")
    facts = metadata.get("envfarm") if isinstance(metadata, dict) else None
    if isinstance(facts, dict):
        facts["files"] = {**digests, TASK_FILE: "0" * 64}
    content = tomlkit.dumps(document).encode()
    return files | {TASK_FILE: _with_seal(content, hashlib.sha256(content).hexdigest())}


def read_published(files: dict[str, bytes]) -> str | None:
    """Return why published files are refused, or None; anything but a TaskError passes."""
    with tempfile.TemporaryDirectory() as name:
        write_package(TaskPackage(task=simple_task(), files=files), Path(name) / "task")
        try:
            read_package(Path(name) / "task")
        except TaskError as error:
            return str(error)
    return None


def parse_published(files: dict[str, bytes]) -> None:
    """Parse files that carry the right digests; they may be refused, in one line that starts with a file's name."""
    try:
        parse_task_toml(files[TASK_FILE], files)
    except TaskError as error:
        told = str(error)
    else:
        return
    assert told.partition(": ")[0] in files
    assert "\n" not in told


WRONG = PLAIN | st.dates() | st.just([[]]) | st.just({}) | st.just(10**30)


@given(st.integers(0, 10**6), WRONG)
@settings(max_examples=100)
def test_wrong_facts_with_right_digests_are_a_task_or_refused(
    request: pytest.FixtureRequest, number: int, wrong: object
) -> None:
    files = dict(request.getfixturevalue("package").files)
    document = tomllib.loads(files[TASK_FILE].decode())
    places = _places(document)
    *above, last = places[number % len(places)]
    place: Any = document
    for key in above:
        place = place[key]
    place[last] = wrong
    parse_published(resealed(document, files))


def _places(value: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    below = value.items() if isinstance(value, dict) else ()
    return [above] * bool(above) + [place for key, inner in below for place in _places(inner, (*above, key))]


@given(PLAIN | st.dictionaries(st.sampled_from(["fail_to_pass", "pass_to_pass", "paths", "plugins"]), PLAIN))
@settings(max_examples=100)
def test_wrong_test_lists_with_right_digests_are_refused_by_their_file(
    request: pytest.FixtureRequest, wrong: object
) -> None:
    package = request.getfixturevalue("package")
    files = {**package.files, EXPECTED_FILE: json.dumps(wrong).encode()}
    parse_published(resealed(tomllib.loads(package.files[TASK_FILE].decode()), files))


@pytest.mark.parametrize("name", [STATEMENT_FILE, LOCK_FILE, EXPECTED_FILE])
@pytest.mark.parametrize("content", [b"\xff", b"\x80abc", None])
def test_texts_that_are_none_are_refused_by_their_file(package: TaskPackage, name: str, content: bytes | None) -> None:
    files = {path: text for path, text in package.files.items() if path != name}
    files |= {} if content is None else {name: content}
    told = read_published(resealed(tomllib.loads(package.files[TASK_FILE].decode()), files))
    assert told is not None
    assert told.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        ("task_id", "../../../out"),
        ("task_id", "/out"),
        ("task_id", ".."),
        ("task_id", ""),
        ("environment.environment_id", "../../../../etc"),
        ("environment.environment_id", "/etc"),
        ("environment.interpreter", "--help"),
        ("environment.interpreter", "3.12/../../x"),
        ("tests.run_timeout_seconds", float("inf")),
        ("tests.run_timeout_seconds", 0.0),
        ("tests.test_timeout_seconds", float("nan")),
    ],
)
def test_facts_that_would_lead_elsewhere_are_refused(package: TaskPackage, place: str, wrong: object) -> None:
    document = tomllib.loads(package.files[TASK_FILE].decode())
    *above, last = place.split(".")
    facts = document["metadata"]["envfarm"]
    for key in above:
        facts = facts[key]
    facts[last] = wrong
    told = read_published(resealed(document, dict(package.files)))
    assert told is not None
    assert told.startswith("task.toml: its ")


@pytest.mark.parametrize("name", [WORKSPACE_ARCHIVE, REFERENCE_ARCHIVE, TEST_PATCH, FIX_PATCH])
def test_a_task_that_was_published_without_what_it_needs_is_refused(package: TaskPackage, name: str) -> None:
    files = {path: text for path, text in package.files.items() if path != name}
    told = read_published(resealed(tomllib.loads(package.files[TASK_FILE].decode()), files))
    assert told == f"{name}: it is missing: get the task again, or mine it anew"


@pytest.mark.parametrize(
    "expected",
    [
        {"fail_to_pass": "tests/test_a.py::test_a", "pass_to_pass": []},
        {"fail_to_pass": [1], "pass_to_pass": []},
        {"fail_to_pass": []},
        {"fail_to_pass": [], "pass_to_pass": [], "protected": ["**"]},
        [],
        None,
    ],
)
def test_an_expected_json_that_would_judge_otherwise_is_refused(package: TaskPackage, expected: object) -> None:
    files = {**package.files, EXPECTED_FILE: json.dumps(expected).encode()}
    told = read_published(resealed(tomllib.loads(package.files[TASK_FILE].decode()), files))
    assert told is not None
    assert told.startswith(f"{EXPECTED_FILE}: ")


@pytest.mark.parametrize("pattern", [b"!", b"\\", b"[z-a]"])
def test_ignore_files_with_patterns_that_are_none_are_refused(package: TaskPackage, pattern: bytes) -> None:
    document = tomllib.loads(package.files[TASK_FILE].decode())
    for name in (".gitignore", "tests/.harborignore"):
        told = read_published(resealed(document, {**package.files, name: pattern}))
        assert told is not None
        assert told.startswith(f"{name}: ")
