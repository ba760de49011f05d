"""A task folder is read as it was written, or refused by the name of the file that is damaged; whatever its bytes."""

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from envfarm.errors import OutputFolderError, TaskError
from envfarm.formats.harbor import package_digest, read_package, write_package
from envfarm.formats.harbor_toml import parse_task_toml
from envfarm.records.task import (
    TASK_FILE,
    Control,
    Environment,
    EnvironmentStep,
    LeakCertificate,
    Link,
    LinkKind,
    MutationScore,
    Quality,
    SourceCommit,
    StageRun,
    Statement,
    StatementSource,
    Task,
    TaskPackage,
    TestClass,
    TestPlan,
    ValidationRecord,
)
from task_miner.packaging.archive import ArchiveEntry, write_archive
from task_miner.packaging.package import PackageParts, build_package, with_quality

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,20}", fullmatch=True)
WORDS = st.lists(TEXT, max_size=3).map(tuple)
NUMBER = st.floats(0, 1e6)
COUNT = st.integers(0, 1 << 40)
PLAIN = st.recursive(
    TEXT | st.booleans() | st.integers(-(1 << 63), 1 << 63) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
LINK = st.builds(Link, kind=st.sampled_from(LinkKind), number=COUNT, confidence=NUMBER, found_in=TEXT)
QUALITY = st.builds(
    Quality,
    controls=st.lists(st.builds(Control, name=TEXT, expected_reward=NUMBER, rewards=st.tuples(NUMBER)), max_size=2).map(
        tuple
    ),
    leak_certificate=st.none() | st.builds(LeakCertificate, checks=st.dictionaries(TEXT, TEXT, max_size=2)),
    mutation=st.none() | st.builds(MutationScore, mutants=COUNT, killed=COUNT, survivors=WORDS),
    class_counts=st.dictionaries(TEXT, COUNT, max_size=2),
    validation_runs=COUNT,
)
TASK = st.builds(
    Task,
    task_id=NAMES,
    statement=st.builds(
        Statement, text=st.text(max_size=40), source=st.sampled_from(StatementSource), flags=st.just(("short",))
    ),
    source=st.builds(SourceCommit, project=TEXT, links=st.lists(LINK, max_size=2).map(tuple), license=st.none() | TEXT),
    environment=st.builds(
        Environment,
        environment_id=NAMES,
        interpreter=st.from_regex(r"[0-9]\.[0-9]{1,2}", fullmatch=True),
        lock=TEXT,
        cutoff=st.none() | TEXT,
        steps=st.lists(st.builds(EnvironmentStep, command=WORDS), max_size=2).map(tuple),
        test_plugins=WORDS,
        environment_variables=st.dictionaries(TEXT, TEXT, max_size=3),
    ),
    tests=st.builds(
        TestPlan,
        paths=WORDS,
        options=WORDS,
        run_timeout_seconds=NUMBER.map(lambda seconds: seconds + 1),
        test_timeout_seconds=NUMBER,
        fail_to_pass=WORDS,
        pass_to_pass=WORDS,
        protected=WORDS,
        removed_paths=WORDS,
    ),
    quality=QUALITY,
    verifier_config=st.dictionaries(TEXT, PLAIN, max_size=3),
)
NAME = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=12)
    .filter(lambda name: name not in {".", ".."})
    .map(lambda name: f"x{name}")
)
FILES = st.dictionaries(NAME.map("{0}/x/{0}".format) | NAME.map("y{}".format), st.binary(max_size=20), max_size=3)
ARCHIVE = write_archive([ArchiveEntry("src/a.py", b"x = 1\n")], modified_at=0)


def package_of(task: Task, project: dict[str, bytes], *, programs: frozenset[str] = frozenset()) -> TaskPackage:
    run = StageRun(stage="base_new_tests", order_seed=1, outcomes={"t": "failed"})
    return build_package(
        PackageParts(
            task=task,
            validation=ValidationRecord(runs=(run,), classes={"t": TestClass.F2P}),
            workspace_archive=ARCHIVE,
            reference_archive=ARCHIVE,
            test_patch=b"diff --git a/t b/t\n\xff\n",
            fix_patch=b"diff --git a/a b/a\n",
            project_files=project,
            project_executables=programs,
        )
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
    return package_of(simple_task(), {"a.pth": b"/x\n", "bin/a": b"#!/bin/sh\n"}, programs=frozenset({"bin/a"}))


@pytest.fixture
def folder(package: TaskPackage, tmp_path: Path) -> Path:
    write_package(package, tmp_path / "task")
    return tmp_path / "task"


@given(TASK, FILES)
@settings(max_examples=40)
def test_a_task_is_read_as_it_was_built(task: Task, project: dict[str, bytes]) -> None:
    programs = frozenset(list(project)[:1])
    built = package_of(task, project, programs=programs)
    text = task.statement.text.rstrip("\n").encode("utf-8", "replace").decode() + "\n"
    assert built.task == msgspec.structs.replace(task, statement=msgspec.structs.replace(task.statement, text=text))
    read, executable = parse_task_toml(built.files[TASK_FILE], built.files)
    assert (read, executable) == (built.task, built.executable)
    assert package_of(read, project, programs=programs) == built


@given(FILES)
@settings(max_examples=15)
def test_a_folder_is_read_as_it_was_written(project: dict[str, bytes]) -> None:
    written = package_of(simple_task(), project, programs=frozenset(list(project)[:1]))
    with tempfile.TemporaryDirectory() as name:
        write_package(written, Path(name) / "task")
        assert read_package(Path(name) / "task") == written


@given(TASK, QUALITY)
@settings(max_examples=30)
def test_what_the_gate_found_changes_task_toml_only(task: Task, quality: Quality) -> None:
    before = package_of(task, {})
    after = with_quality(before, quality)
    assert {path for path in before.files if before.files[path] != after.files[path]} <= {TASK_FILE}
    assert parse_task_toml(after.files[TASK_FILE], after.files) == (after.task, after.executable)


def test_the_order_in_which_things_were_told_changes_no_byte() -> None:
    told = {"z": [{}], "a": "", "m": {"y": 1, "x": 2}}
    task = msgspec.structs.replace(simple_task(), verifier_config=told)
    again = msgspec.structs.replace(task, verifier_config=dict(reversed(told.items())))
    assert package_of(task, {}).files == package_of(again, {}).files


def test_a_name_that_is_no_utf8_is_refused_by_the_file_it_would_stand_in() -> None:
    task = msgspec.structs.replace(simple_task(), tests=TestPlan(paths=("tests/test_\udce4.py",)))
    with pytest.raises(TaskError, match=r"^tests/expected\.json: a name in it is not UTF-8"):
        package_of(task, {})
    with pytest.raises(TaskError, match=r"^task\.toml: a name in it is not UTF-8"):
        package_of(simple_task(), {"\udce4.pth": b""})


def refused(folder: Path) -> str:
    """Return the file by whose name a folder is refused."""
    with pytest.raises(TaskError) as caught:
        read_package(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value).partition(": ")[0]


def damages(content: bytes) -> list[bytes]:
    middle = len(content) // 2
    flipped = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in {0, middle, len(content) - 1}]
    return [*flipped, content[:-1], content[:middle], b"", content + b"\n", b"\xff\0" * 10]


def test_damage_to_any_file_is_refused_by_its_name(package: TaskPackage, folder: Path) -> None:
    for name, content in package.files.items():
        for damaged in damages(content):
            (folder / name).write_bytes(damaged)
            assert refused(folder) == name
        (folder / name).unlink()
        assert refused(folder).endswith(name)
        (folder / name).mkdir()
        assert refused(folder).endswith(name)
        (folder / name).rmdir()
        (folder / name).symlink_to("/etc/hostname")
        assert refused(folder) == name
        (folder / name).unlink()
        (folder / name).write_bytes(content)
    assert read_package(folder) == package


def test_a_file_that_is_added_anywhere_is_refused_by_its_name(package: TaskPackage, folder: Path) -> None:
    places = {Path(name).parent for name in package.files} | {Path("new/folder"), Path("environment/project/a/b")}
    for place in places:
        for name in ("more.py", ".hidden", "x~", "__pycache__/a.pyc", ".gitignore"):
            stranger = folder / place / name
            stranger.parent.mkdir(parents=True, exist_ok=True)
            stranger.write_bytes(b"")
            assert refused(folder) == (place / name).as_posix()
            stranger.unlink()
    assert read_package(folder) == package


def test_bits_all_over_task_toml_count(package: TaskPackage) -> None:
    content = package.files[TASK_FILE]
    for place in range(0, len(content), 2):
        damaged = content[:place] + bytes([content[place] ^ (1 << place % 7)]) + content[place + 1 :]
        with pytest.raises(TaskError, match=r"^task\.toml: "):
            parse_task_toml(damaged, package.files)


def test_a_folder_whose_modes_were_lost_is_read_as_it_was_published(package: TaskPackage, folder: Path) -> None:
    assert package.executable == {"tests/test.sh", "solution/solve.sh", "environment/project/bin/a"}
    for name in package.files:
        (folder / name).chmod(0o644)
    assert read_package(folder) == package
    for name in package.files:
        (folder / name).chmod(0o755)
    assert read_package(folder) == package


@pytest.mark.parametrize("verb", [["task", "show"], ["grade", "--no-op"]])
@pytest.mark.parametrize("damaged", ["environment/project/a.pth", "solution/solve.sh"])
def test_the_commands_refuse_a_damaged_task_in_one_line(folder: Path, verb: list[str], damaged: str) -> None:
    (folder / damaged).write_bytes(b"")
    program = "from envfarm.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program, *verb, folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"envfarm: {damaged}: ")
    assert done.stderr.count("\n") == 1


@given(
    st.binary(max_size=80) | TEXT.map(str.encode) | PLAIN.map(lambda value: tomlkit.dumps({"metadata": value}).encode())
)
def test_any_bytes_as_task_toml_are_refused_by_its_name(content: bytes) -> None:
    with pytest.raises(TaskError, match=r"^task\.toml: "):
        parse_task_toml(content, {})


@pytest.mark.parametrize("content", [b"a = " + b"[" * 20_000, b"a = " + b"9" * 20_000, b"[a]\n[a]\n", b"\r"])
def test_toml_that_overwhelms_its_reader_is_refused(package: TaskPackage, content: bytes) -> None:
    with pytest.raises(TaskError, match=r"^task\.toml: it is no TOML"):
        parse_task_toml(content, package.files)


def test_no_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", Path("a" * 5000), tmp_path):
        with pytest.raises(TaskError, match=r"name a task folder$"):
            read_package(path)


def test_a_task_takes_the_place_of_an_older_one_whole(package: TaskPackage, folder: Path) -> None:
    (folder / "stranger").write_bytes(b"")
    write_package(package, folder)
    assert read_package(folder) == package
    assert [path.name for path in folder.parent.iterdir()] == ["task"]
    blocked = replace(package, files={**package.files, "tests/test.sh/below": b""})
    with pytest.raises(OutputFolderError):
        write_package(blocked, folder)
    assert read_package(folder) == package
    assert package_digest(package.files) == package.digest
