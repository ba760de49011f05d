"""Lint of our own rules and of compose files, by tables; and of any folder of a stranger's without a traceback."""

import json
import lzma
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomlkit
from hypothesis import example, given, settings
from hypothesis import strategies as st

from envfarm.errors import TaskError
from envfarm.formats.harbor_config import read_config, unknown_fields
from envfarm.formats.harbor_rules import contradictions
from envfarm.formats.lint import _lint_compose_files, _lint_config, _lint_sources, lint_task
from envfarm.formats.lint_commands import lint_dockerfile, lint_script
from envfarm.formats.lint_compose import lint_compose
from envfarm.formats.lint_layout import lint_layout
from envfarm.formats.lint_ours import lint_ours
from envfarm.formats.lint_problem import Problem
from envfarm.formats.patch_text import read_patch
from envfarm.formats.task_tree import TaskTree
from envfarm.records.task import (
    DOCKERFILE,
    Environment,
    LeakCertificate,
    Quality,
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

LINE = "return combine(first_operand, second_operand, rounding=True)"
FIX = f"diff --git a/src/a.py b/src/a.py\n--- a/src/a.py\n+++ b/src/a.py\n@@ -1 +1 @@\n-return None\n+{LINE}\n"
LOCK = "a==1.0 \\\n    --hash=sha256:00\n"


def parts(**changes: Any) -> PackageParts:
    task = Task(
        task_id="project-0123456789ab",
        statement=Statement(text="It fails.", source=StatementSource.ISSUE),
        source=SourceCommit(project="p", base_commit="0", fix_commit="1", committed_at="2024", unit_kind="plain"),
        environment=Environment(environment_id="py3.12-0", interpreter="3.12", lock=LOCK, lock_sha256="0"),
        tests=TestPlan(paths=("tests/test_a.py",), fail_to_pass=("t::a", "t::b"), pass_to_pass=("t::c",)),
        quality=Quality(leak_certificate=LeakCertificate(checks={"patch": "clean"}, sha256="0")),
    )
    archive = write_archive([ArchiveEntry("src/a.py", b"return None\n")], modified_at=0)
    whole = PackageParts(
        task=task,
        validation=ValidationRecord(runs=(), classes={}),
        workspace_archive=archive,
        reference_archive=archive,
        test_patch=b"",
        fix_patch=FIX.encode(),
        project_files={},
    )
    return replace(whole, **changes)


def with_task(**changes: Any) -> PackageParts:
    return replace(parts(), task=msgspec.structs.replace(parts().task, **changes))


def with_tests(**changes: Any) -> PackageParts:
    return with_task(tests=msgspec.structs.replace(parts().task.tests, **changes))


def with_environment(**changes: Any) -> PackageParts:
    return with_task(environment=msgspec.structs.replace(parts().task.environment, **changes))


def with_statement(text: str) -> PackageParts:
    return with_task(statement=Statement(text=text, source=StatementSource.ISSUE))


def certified(**checks: str) -> PackageParts:
    return with_task(quality=Quality(leak_certificate=LeakCertificate(checks=checks, sha256="0")))


def archived(content: bytes) -> PackageParts:
    return parts(workspace_archive=write_archive([ArchiveEntry("src/a.py", content)], modified_at=0))


OURS: dict[str, tuple[PackageParts, list[tuple[str, str]]]] = {
    "nothing": (parts(), []),
    "no certificate": (with_task(quality=Quality()), [("envfarm-no-certificate", "task.toml")]),
    "an unclean certificate": (certified(patch="clean", files="found"), [("envfarm-no-certificate", "task.toml")]),
    "nothing to pass": (with_tests(fail_to_pass=()), [("envfarm-nothing-to-pass", "tests/expected.json")]),
    "a test in both lists": (
        with_tests(pass_to_pass=("t::a",)),
        [("envfarm-overlapping-lists", "tests/expected.json")],
    ),
    "unsorted": (with_tests(fail_to_pass=("t::b", "t::a")), [("envfarm-unsorted-lists", "tests/expected.json")]),
    "twice": (with_tests(fail_to_pass=("t::a", "t::a")), [("envfarm-unsorted-lists", "tests/expected.json")]),
    "no hash": (with_environment(lock="a==1.0\n"), [("envfarm-lock-without-hashes", "environment/requirements.txt")]),
    "an option in the lock": (with_environment(lock=f"--no-binary :all:\n{LOCK}"), []),
    "an unpinned base": (
        with_environment(interpreter="3.99"),
        [("envfarm-unpinned-base-image", "environment/Dockerfile")],
    ),
    "no patches": (parts(fix_patch=b""), [("envfarm-no-patches", "solution/fix.patch")]),
    "the fix in the statement": (with_statement(f"Try\n    {LINE}\n"), [("envfarm-leak", "instruction.md")]),
    "a hidden test in the statement": (
        replace(with_statement(LINE), fix_patch=b"", test_patch=FIX.encode()),
        [("envfarm-leak", "instruction.md")],
    ),
    "a short line in the statement": (
        replace(with_statement("return 5"), fix_patch=FIX.replace(LINE, "return 5").encode()),
        [],
    ),
    "the fix among the project's files": (
        parts(project_files={"a.py": f"{LINE}\n".encode()}),
        [("envfarm-leak", "environment/project/a.py")],
    ),
    "the fix in the workspace": (archived(f"{LINE}\n".encode()), [("envfarm-leak", "environment/workspace.tar.xz")]),
    "a line that the base has": (
        replace(with_statement(LINE), workspace_archive=archived(f"# {LINE}\n".encode()).workspace_archive),
        [],
    ),
    "no archive": (parts(workspace_archive=b"x"), [("envfarm-damaged", "environment/workspace.tar.xz")]),
    "a cut archive": (
        parts(workspace_archive=parts().workspace_archive[:-9]),
        [("envfarm-damaged", "environment/workspace.tar.xz")],
    ),
    "large": (parts(test_patch=b"#" * (5 << 20)), [("envfarm-large", "task.toml")]),
}


@pytest.mark.parametrize("name", OURS)
def test_our_own_rules_name_the_file(name: str) -> None:
    made, expected = OURS[name]
    assert [(found.rule, found.file) for found in lint_ours(build_package(made).files)] == expected


def test_a_damaged_task_of_ours_is_said_to_be_damaged() -> None:
    package: TaskPackage = build_package(parts())
    (found,) = lint_ours({**package.files, DOCKERFILE: b""})
    assert (found.rule, found.file, found.severity) == ("envfarm-damaged", DOCKERFILE, "error")
    (found,) = lint_ours({})
    assert (found.rule, found.file) == ("envfarm-damaged", "task.toml")


def size_of(octets: bytes) -> bytes:
    info = tarfile.TarInfo("a")
    info.pax_headers = {"size": octets.decode()}
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    "members",
    [size_of(b"-1536"), size_of(b"-512"), size_of(b"9" * 30), b"x" * 3000],
    ids=["leads back to itself", "less than nothing", "huge", "noise"],
)
def test_a_workspace_that_would_never_end_is_damaged(members: bytes) -> None:
    package = build_package(parts(workspace_archive=lzma.compress(members + b"\0" * 1024)))
    assert [found.rule for found in lint_ours(package.files)] == ["envfarm-damaged"]


PINNED = "a@sha256:" + "0" * 64
COMPOSE: dict[str, tuple[Any, list[str]]] = {
    "nothing": ({"services": {"main": {"image": PINNED}}}, []),
    "no services": ({"volumes": {}}, ["invalid-task-config"]),
    "no mapping": (["services"], ["invalid-task-config"]),
    "a service that is none": ({"services": {"main": None}}, ["invalid-task-config"]),
    "unpinned": ({"services": {"main": {"image": "a:1"}}}, ["unpinned-image"]),
    "built": ({"services": {"main": {"image": "mine", "build": "."}, "more": {"image": "mine"}}}, []),
    "privileged": ({"services": {"main": {"privileged": True}}}, ["compose-privileged"]),
    "privileged in words": ({"services": {"main": {"privileged": "true"}}}, ["compose-privileged"]),
    "a privileged hook": (
        {"services": {"main": {"post_start": [{"command": "a", "privileged": True}]}}},
        ["compose-privileged"],
    ),
    "not privileged": ({"services": {"main": {"privileged": False}}}, []),
    "capabilities": ({"services": {"main": {"cap_add": ["SYS_ADMIN"]}}}, ["compose-additional-capabilities"]),
    "a writable mount": ({"services": {"main": {"volumes": ["./data:/data"]}}}, ["compose-writable-bind-mount"]),
    "a read-only mount": ({"services": {"main": {"volumes": ["./data:/data:ro"]}}}, []),
    "a mount of the host": (
        {"services": {"main": {"volumes": ["/etc:/data:ro"]}}},
        ["compose-external-bind-mount"],
    ),
    "a mount from above": (
        {"services": {"main": {"volumes": ["../../x:/data:ro"]}}},
        ["compose-external-bind-mount"],
    ),
    "a mount in long form": (
        {"services": {"main": {"volumes": [{"type": "bind", "source": "/etc", "target": "/x"}]}}},
        ["compose-external-bind-mount", "compose-writable-bind-mount"],
    ),
    "a read-only one in long form": (
        {"services": {"main": {"volumes": [{"type": "bind", "source": "./x", "target": "/x", "read_only": True}]}}},
        [],
    ),
    "a named volume": ({"services": {"main": {"volumes": ["data:/data"]}}, "volumes": {"data": None}}, []),
    "a named volume of the host": (
        {
            "services": {"main": {"volumes": ["data:/data"]}},
            "volumes": {"data": {"driver_opts": {"type": "none", "o": "bind", "device": "/etc"}}},
        },
        ["compose-external-bind-mount", "compose-writable-bind-mount"],
    ),
    "a mount through a link": (
        {"services": {"main": {"volumes": ["./link/x:/data:ro"]}}},
        ["compose-external-bind-mount", "compose-symlink-bind-mount"],
    ),
    "mounts of any kind": ({"services": {"main": {"volumes": [1, None, [], {}, True, "x", ":", "::"]}}}, []),
}


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_rules(name: str) -> None:
    document, rules = COMPOSE[name]
    found = lint_compose(json.dumps(document), "environment/docker-compose.yaml", ["environment/link"])
    assert sorted(rule for rule, _ in found) == rules


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.lists(
    st.sampled_from(
        [
            "pip",
            "install",
            "uvx",
            "--with",
            "curl",
            "-o",
            "x",
            "git",
            "clone",
            "https://a.org/x",
            "FROM",
            "RUN",
            "COPY",
            "<<EOF",
            "EOF",
            "'",
            '"',
            "|",
            "sh",
        ]
    )
    | st.sampled_from(["\n", "\\\n", "a==1", "a;" + "(" * 3000, "http://[", "[", '["a"]', "AS", "\0", "\ud83d"])
    | st.text(max_size=5),
    max_size=12,
).map(" ".join)
SIZES = st.builds(lambda digits, unit: f"{'9' * digits}{unit}", st.integers(0, 400), st.sampled_from("GMKgx "))


@given(NESTED, NESTED, NESTED)
def test_any_compose_file_is_linted(service: object, volume: object, other: object) -> None:
    document = {"services": {"main": service, "more": {"volumes": volume, "image": other}}, "volumes": other}
    for text in (json.dumps(document), json.dumps({"services": service})):
        list(lint_compose(text, "environment/docker-compose.yaml"))


@pytest.mark.parametrize("package", ["a;" + "(" * 3000, "a[" * 3000, "a==" + "9" * 5000, "a @ " + "b" * 5000])
def test_packages_that_overwhelm_their_reader_are_linted(package: str) -> None:
    list(lint_script(f"pip install '{package}'", is_separate=True))


@given(WORDS)
def test_any_commands_are_linted(text: str) -> None:
    for is_separate in (True, False):
        list(lint_script(text, is_separate=is_separate))
        list(lint_dockerfile(text, of_agent=is_separate))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "environment": st.fixed_dictionaries(
                {},
                optional={"memory": SIZES, "memory_mb": st.integers(), "storage": SIZES, "storage_mb": st.integers()},
            ),
            "artifacts": st.lists(st.text(max_size=5) | st.builds(dict, source=st.text(max_size=5)), max_size=3),
            "steps": st.lists(st.fixed_dictionaries({"name": st.text(max_size=5), "verifier": NESTED}), max_size=2),
            "agent": NESTED,
            "verifier": NESTED,
            "task": NESTED | st.builds(dict, name=st.text(max_size=5)),
        },
    )
)
def test_any_configuration_is_linted(document: dict[str, Any]) -> None:
    list(unknown_fields(document))
    config = read_config(document)
    if isinstance(config, str):
        assert "\n" not in config
        return
    list(contradictions(config))
    tree = TaskTree(files={"tests/test.sh": b"", "tests/docker-compose.yaml": b"["}, folders=frozenset(), strays=())
    for problems in (
        _lint_config(config),
        _lint_sources(config, tree),
        lint_layout(config, tree),
        _lint_compose_files(tree),
    ):
        assert all(isinstance(item, Problem) for item in problems)


@given(
    st.binary(max_size=80) | st.builds(lambda head, tail: head + tail, st.just(FIX.encode()), st.binary(max_size=40))
)
def test_any_bytes_are_a_patch(patch: bytes) -> None:
    for patched in read_patch(patch):
        patched.is_applied_to(patch)
        assert all(isinstance(line, bytes) for line in patched.own_lines)


def test_a_hunk_of_more_lines_than_any_number_is_no_hunk() -> None:
    digits = b"9" * 5000
    assert list(read_patch(b"--- a/x\n+++ b/x\n@@ -1,%s +1,%s @@\n+a\n" % (digits, digits))) == []


PATHS = [
    "task.toml",
    "instruction.md",
    "environment/Dockerfile",
    "environment/docker-compose.yaml",
    "tests/test.sh",
    "solution/solve.sh",
    "steps/a/tests/test.sh",
    "tests/Dockerfile",
]


def dump(value: Any) -> bytes:
    try:
        return tomlkit.dumps(value).encode()
    except (TypeError, ValueError):
        return b""


CONTENT = st.one_of(
    st.binary(max_size=60),
    WORDS.map(lambda text: text.encode("utf-8", "replace")),
    NESTED.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.text(max_size=6), NESTED, max_size=3).map(dump),
)


@given(st.dictionaries(st.sampled_from(PATHS), CONTENT, min_size=1))
@example(files={"task.toml": b'"\\n" = []'})
@settings(max_examples=60)
def test_any_folder_is_linted(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("any")
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert all("\n" not in item.message for item in lint_task(folder))


def test_links_out_of_a_task_are_strays_and_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "out").symlink_to("/etc")
    (tmp_path / "loop").symlink_to("loop")
    assert [item.file for item in lint_task(tmp_path) if "no regular file" in item.message] == ["loop", "tests/out"]
    for path in (tmp_path / "missing", Path("a" * 5000)):
        with pytest.raises(TaskError, match="no folder"):
            lint_task(path)
