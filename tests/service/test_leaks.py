"""The leak audit finds each planted leak by name, and nothing in a workspace as the miner makes it."""

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from envfarm.images.unpack import unpack_archive
from envfarm.records.task import (
    DOCKERFILE,
    PROJECT_FOLDER,
    Environment,
    Link,
    LinkKind,
    SourceCommit,
    Statement,
    StatementSource,
    Task,
    TaskPackage,
    TestPlan,
    ValidationRecord,
)
from task_miner.packaging.archive import write_archive
from task_miner.packaging.package import PackageParts, build_package
from task_miner.packaging.workspace import build_workspace, with_generated
from task_miner.quality.leaks import AuditRequest, audit, first_leak
from task_miner.sources.git_command import ObjectReader

PROJECT = '[project]\nname = "tiny"\nversion = "1.5"\n'
BASE = {
    "pyproject.toml": PROJECT,
    "tiny.py": "def area(width, height):\n    return width + height\n",
    "notes.py": "TEXT = 'a line of the base that is long enough to be looked for'\n",
    "tests/test_tiny.py": "from tiny import area\n",
}
FIX_LINE = "    return multiply_two_sides_of_a_rectangle(width, height)"
FIXED = f"def area(width, height):\n{FIX_LINE}\n"
TESTS = "from tiny import area\ndef test_area_of_a_rectangle():\n    assert area(2, 3) == 6\n"
METADATA = f"{PROJECT_FOLDER}/tiny-1.5.dist-info/METADATA"
LOCK = "toolz==0.12.1 \\\n    --hash=sha256:00\n"


@dataclass(frozen=True, kw_only=True)
class Given:
    """A repository with a base and a fix, and a clean task made of them."""

    repository: Path
    base: str
    fix: str
    request: AuditRequest
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def workspace(self) -> Path:
        return self.request.workspace

    def git(self, *words: str, folder: Path | None = None) -> str:
        return git(folder or self.workspace, *words)

    def with_task(self, **facts: object) -> AuditRequest:
        task = msgspec.structs.replace(self.request.package.task, **facts)
        return replace(self.request, package=replace(self.request.package, task=task))

    def with_file(self, path: str, content: str) -> AuditRequest:
        files = {**self.request.package.files, path: content.encode()}
        return replace(self.request, package=replace(self.request.package, files=files))


def git(folder: Path, *words: str) -> str:
    quiet = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "PATH": os.environ["PATH"]}
    who = {f"GIT_{role}_{what}": "a@b.c" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(["git", *words], cwd=folder, env=quiet | who, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def write(folder: Path, files: Mapping[str, str]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def commit(folder: Path, message: str) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def make_package(repository: Path, base: str, fix: str, archive: bytes) -> TaskPackage:
    task = Task(
        task_id=f"tiny-{fix[:12]}",
        statement=Statement(text="area() gives the sum of the sides.", source=StatementSource.ISSUE),
        source=SourceCommit(
            project="tiny",
            base_commit=base,
            fix_commit=fix,
            committed_at="2024-07-03T00:00:00Z",
            unit_kind="plain",
            links=(Link(kind=LinkKind.PULL_REQUEST, number=12, confidence=1.0, found_in="squash_trailer"),),
        ),
        environment=Environment(
            environment_id="py3.11-0", interpreter="3.11", lock=LOCK, lock_sha256="", cutoff="2024-07-01T00:00:00Z"
        ),
        tests=TestPlan(paths=("tests/test_tiny.py",)),
    )
    return build_package(
        PackageParts(
            task=task,
            validation=ValidationRecord(runs=(), classes={}),
            workspace_archive=archive,
            reference_archive=b"",
            test_patch=git(repository, "diff", base, fix, "--", "tests").encode(),
            fix_patch=git(repository, "diff", base, fix, "--", "tiny.py").encode(),
            project_files={"tiny-1.5.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.5\n"},
        )
    )


@pytest.fixture
def given(tmp_path: Path) -> Given:
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    write(repository, BASE | {"tiny.py": "first = 1\n"})
    commit(repository, "first")
    write(repository, BASE)
    base = commit(repository, "base")
    write(repository, {"tiny.py": FIXED, "tests/test_tiny.py": TESTS})
    fix = commit(repository, "fix")
    with ObjectReader(repository / ".git") as reader:
        made = build_workspace(repository / ".git", reader, base)
    archive = write_archive(with_generated(made.entries, {"_version.py": b"v = '0.0.0'\n"}), modified_at=0)
    (tmp_path / "workspace").mkdir()
    unpack_archive("workspace", archive, tmp_path / "workspace")
    objects = git(repository, "rev-list", "--objects", "--no-object-names", fix, f"^{base}").split()
    request = AuditRequest(
        package=make_package(repository, base, fix, archive),
        workspace=tmp_path / "workspace",
        tracked=made.paths,
        fix_commits=frozenset({fix}),
        fix_objects=frozenset(objects),
        fixed_contents=(FIXED.encode(), TESTS.encode()),
        test_names=frozenset({"test_area_of_a_rectangle"}),
        project="tiny",
    )
    return Given(repository=repository, base=base, fix=fix, request=request)


def test_a_task_as_the_miner_makes_it_is_clean_and_certified(given: Given) -> None:
    certificate = audit(given.request)
    assert first_leak(certificate) is None
    assert set(certificate.checks.values()) == {"clean"}
    assert certificate == audit(given.request)
    assert len(certificate.sha256) == 64


def fetch_fix(given: Given) -> None:
    given.git("fetch", "-q", str(given.repository), given.fix)


def fetch_and_hide(given: Given) -> None:
    fetch_fix(given)
    (given.workspace / ".git" / "FETCH_HEAD").unlink()


def pack_all(given: Given) -> None:
    fetch_and_hide(given)
    given.git("update-ref", "refs/heads/main", given.fix)
    given.git("repack", "-q", "-a", "-d")
    given.git("update-ref", "refs/heads/main", given.base)


def lone_blob(given: Given) -> None:
    write(given.workspace, {"../blob": FIXED})
    given.git("hash-object", "-w", str(given.workspace / "../blob"))


def stash(given: Given) -> None:
    write(given.workspace, {"tiny.py": FIXED})
    given.git("stash", "-q")


def index_entry(given: Given) -> None:
    oid = given.git("rev-parse", "HEAD~1:tiny.py")
    given.git("update-index", "--cacheinfo", f"100644,{oid},tiny.py")


def in_git(path: str, content: str) -> Callable[[Given], None]:
    return lambda given: write(given.workspace / ".git", {path: content})


def in_workspace(path: str, content: str) -> Callable[[Given], None]:
    return lambda given: write(given.workspace, {path: content})


@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (fetch_fix, "git_objects: the fix's own commit"),
        (pack_all, "git_objects: the fix's own commit"),
        (lone_blob, "git_objects: the object"),
        (stash, "git_objects: the object"),
        (index_entry, "git_objects: the index holds another tiny.py"),
        (lambda given: (given.workspace / ".git" / "HEAD").unlink(), "git_objects: the repository cannot be read"),
        (lambda given: given.git("tag", "later"), "git_files: .git/refs/tags/later"),
        (lambda given: given.git("update-ref", "-m", "x", "--create-reflog", "HEAD", "HEAD"), "git_files: .git/logs"),
        (lambda given: given.git("branch", "other"), "git_files: .git/"),
        (lambda given: given.git("pack-refs", "--all"), "git_files: .git/packed-refs"),
        (lambda given: given.git("remote", "add", "origin", "x"), "git_files: .git/config"),
        (in_git("refs/heads/main", "0" * 40 + "\n"), "git_"),
        (in_git("ORIG_HEAD", "0" * 40), "git_files: .git/ORIG_HEAD"),
        (in_git("FETCH_HEAD", "0" * 40), "git_files: .git/FETCH_HEAD"),
        (in_git("logs/HEAD", "x"), "git_files: .git/logs/HEAD"),
        (in_git("objects/info/alternates", "/nowhere"), "git_files: .git/objects/info/alternates"),
        (in_git("worktrees/a/HEAD", "x"), "git_files: .git/worktrees/a/HEAD"),
        (in_git("refs/stash", "x"), "git_"),
        (in_git("hooks/post-checkout", "x"), "git_files: .git/hooks/post-checkout"),
        (in_workspace("tiny.py", FIXED), "tracked_files: tiny.py is not as the base has it"),
        (lambda given: (given.workspace / "notes.py").unlink(), "tracked_files: notes.py is missing"),
        (in_workspace("lib/tiny_copy.py", FIXED), "file_contents: lib/tiny_copy.py holds a file as the fix has it"),
        (in_workspace("lib/part.py", f"def f():\n{FIX_LINE}\n"), "file_contents: lib/part.py holds a line of the fix"),
        (in_workspace("hidden.py", TESTS), "file_contents: hidden.py"),
        (in_workspace("build/lib/tiny.py", BASE["tiny.py"]), "leftovers: build/lib/tiny.py"),
        (in_workspace("tiny.egg-info/PKG-INFO", "x"), "leftovers: tiny.egg-info/PKG-INFO"),
        (in_workspace("__pycache__/tiny.cpython-311.pyc", "x"), "leftovers: __pycache__"),
        (in_workspace(".pytest_cache/v/cache/lastfailed", "x"), "leftovers: .pytest_cache"),
        (in_workspace("tiny.pyc", "x"), "leftovers: tiny.pyc"),
    ],
)
def test_a_leak_in_the_workspace_is_found(given: Given, plant: Callable[[Given], object], check: str) -> None:
    plant(given)
    leak = first_leak(audit(given.request))
    assert leak is not None
    assert leak.startswith(check)


@pytest.mark.parametrize(
    ("path", "content", "check"),
    [
        (METADATA, "Name: tiny\nVersion: 1.6\n", "installed_version: 1.6, where the base says 1.5"),
        (f"{PROJECT_FOLDER}/tiny.py", FIXED, "installed_project: environment/project/tiny.py"),
        (f"{PROJECT_FOLDER}/a.py", f"x = 1\n{FIX_LINE}\n", "installed_project: environment/project/a.py"),
        (DOCKERFILE, "FROM python\nRUN git clone https://example.org/tiny\n", "dockerfile: it fetches"),
        (DOCKERFILE, "FROM python\nADD https://example.org/tiny /x\n", "dockerfile: it fetches"),
    ],
)
def test_a_leak_in_what_is_installed_is_found(given: Given, path: str, content: str, check: str) -> None:
    leak = first_leak(audit(given.with_file(path, content)))
    assert leak is not None
    assert leak.startswith(check)


def test_an_id_of_the_fix_is_found_wherever_it_stands(given: Given) -> None:
    for path in (DOCKERFILE, f"{PROJECT_FOLDER}/tiny-1.5.dist-info/direct_url.json"):
        leak = first_leak(audit(given.with_file(path, f"as of {given.fix[:9]}")))
        assert leak is not None
        assert given.fix[:7] in leak


@pytest.mark.parametrize(
    ("lock", "cutoff", "said"),
    [
        (LOCK + "tiny==1.5 \\\n", "2024-07-01T00:00:00Z", "lock: tiny==1.5"),
        (LOCK + "Tiny[all]==1.6\n", None, "lock: Tiny[all]==1.6"),
        (LOCK + "tiny @ https://example.org/tiny.whl\n", None, "lock: tiny @"),
        (LOCK + "other @ git+https://example.org/tiny\n", None, "lock: other @ git+"),
        (LOCK + "-e .\n", None, "lock: -e ."),
        (LOCK, "2024-07-04T00:00:00Z", "lock: releases up to"),
        (LOCK + "tiny-plugin==1.0\n", None, None),
    ],
)
def test_a_leak_in_the_lock_is_found(given: Given, lock: str, cutoff: str | None, said: str | None) -> None:
    environment = msgspec.structs.replace(given.request.package.task.environment, lock=lock, cutoff=cutoff)
    leak = first_leak(audit(given.with_task(environment=environment)))
    assert leak is None if said is None else leak is not None and leak.startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Mended in {fix:.8}.", "statement: the commit"),
        ("See https://example.org/a/tiny/pull/12 for it.", "statement: a link to the pull request 12"),
        ("See https://example.org/a/tiny/pull/123 for it.", None),
        ("Make test_area_of_a_rectangle pass.", "statement: the hidden test test_area_of_a_rectangle"),
        ("Write\n\n  return  multiply_two_sides_of_a_rectangle(width, height)\n", "statement: a line of the fix"),
        ("It should multiply the two sides.", None),
    ],
)
def test_a_leak_in_the_statement_is_found(given: Given, text: str, said: str | None) -> None:
    statement = Statement(text=text.replace("{fix:.8}", given.fix[:8]), source=StatementSource.ISSUE)
    leak = first_leak(audit(given.with_task(statement=statement)))
    assert leak is None if said is None else leak is not None and leak.startswith(said)


def test_what_the_base_holds_itself_is_no_leak(given: Given) -> None:
    write(given.workspace, {"generated.py": BASE["notes.py"]})
    patch = given.request.package.files["solution/fix.patch"] + b"+" + BASE["notes.py"].encode()
    assert first_leak(audit(given.with_file("solution/fix.patch", patch.decode()))) is None
