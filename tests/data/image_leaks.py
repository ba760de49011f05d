"""A task with a repository, and leaks of its fix to be planted into layers of its image."""

import gzip
import io
import os
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envfarm.formats.harbor_digest import package_digest
from envfarm.images.layer_archive import LayerEntry, giver
from envfarm.records.task import (
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
from task_miner.packaging.workspace import build_workspace, with_generated
from task_miner.sources.git_command import ObjectReader

BASE = {
    "pyproject.toml": '[project]\nname = "tiny"\nversion = "1.5"\n',
    "tiny.py": "def area(width, height):\n    return width + height\n",
    "notes.py": "TEXT = call('a line of the base that is long enough to be looked for')\n" * 40,
    "tests/test_tiny.py": "from tiny import area\n",
}
FIX_LINES = (
    "    sides = order_two_sides_of_a_rectangle(width, height)\n    return multiply_two_sides_of_a_rectangle(*sides)\n"
)
FIXED = f"def area(width, height):\n{FIX_LINES}"
HIDDEN = "test_area_of_a_rectangle"
TESTS = f"from tiny import area\n\n\ndef {HIDDEN}():\n    assert area(2, 3) == 6\n"
METADATA = "Metadata-Version: 2.1\nName: {}\nVersion: 1.6\n"


@dataclass(frozen=True, kw_only=True)
class LeakyTask:
    """A clean task, the repository that holds its fix, and its fix's commit."""

    package: TaskPackage
    repository: Path
    base: str
    fix: str
    generated: Mapping[str, bytes] = field(default_factory=dict)


def git(folder: Path, *words: str) -> bytes:
    quiet = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "PATH": os.environ["PATH"]}
    who = {f"GIT_{role}_{what}": "a@b.c" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    when = {"GIT_AUTHOR_DATE": "2024-01-02T00:00:00Z", "GIT_COMMITTER_DATE": "2024-01-02T00:00:00Z"}
    return subprocess.run(["git", *words], cwd=folder, env=quiet | who | when, capture_output=True, check=True).stdout


def commit(folder: Path, files: Mapping[str, str]) -> str:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "step")
    return git(folder, "rev-parse", "HEAD").decode().strip()


def make_leaky_task(
    folder: Path, *, environment: Environment, generated: Mapping[str, bytes] | None = None
) -> LeakyTask:
    """Make the task in an empty folder; `generated` are files that git does not track, as building leaves them."""
    git(folder, "init", "-q", "-b", "main")
    commit(folder, BASE | {"notes.py": "TEXT = 1\n" + BASE["notes.py"]})
    base = commit(folder, BASE)
    fix = commit(folder, {"tiny.py": FIXED, "tests/test_tiny.py": TESTS})
    with ObjectReader(folder / ".git") as reader:
        made = build_workspace(folder / ".git", reader, base)
    left = {"_version.py": b"v = '0.0.0'\n", **(generated or {})}
    task = Task(
        task_id="tiny-leaky",
        statement=Statement(text="area() gives the sum of the sides.", source=StatementSource.ISSUE),
        source=SourceCommit(
            project="tiny",
            base_commit=base,
            fix_commit=fix,
            committed_at="2024-07-03T00:00:00Z",
            unit_kind="plain",
        ),
        environment=environment,
        tests=TestPlan(paths=("tests/test_tiny.py",), fail_to_pass=(f"tests/test_tiny.py::{HIDDEN}",)),
    )
    package = build_package(
        PackageParts(
            task=task,
            validation=ValidationRecord(runs=(), classes={}),
            workspace_archive=write_archive(with_generated(made.entries, left), modified_at=made.committed_at),
            reference_archive=write_archive([ArchiveEntry("tests/test_tiny.py", TESTS.encode())], modified_at=0),
            test_patch=git(folder, "diff", base, fix, "--", "tests"),
            fix_patch=git(folder, "diff", base, fix, "--", "tiny.py"),
            project_files={"tiny-1.5.dist-info/METADATA": METADATA.format("tiny").replace("1.6", "1.5").encode()},
        )
    )
    whole = TaskPackage(
        task=task, files=package.files, executable=package.executable, digest=package_digest(package.files)
    )
    return LeakyTask(package=whole, repository=folder, base=base, fix=fix, generated=left)


Plant = Callable[[LeakyTask], dict[str, bytes]]


def at(path: str, content: str | bytes) -> Plant:
    data = content.encode() if isinstance(content, str) else content
    return lambda _: {path: data}


def fix_as_pack(task: LeakyTask) -> dict[str, bytes]:
    """Return a second pack of the workspace's repository, with the fix in it."""
    listed = git(task.repository, "rev-list", "--objects", "--no-object-names", task.fix, f"^{task.base}")
    packs = task.repository / "packs"
    packs.mkdir(exist_ok=True)
    made = subprocess.run(
        ["git", "pack-objects", "-q", "packs/pack"], cwd=task.repository, input=listed, capture_output=True, check=True
    )
    name = made.stdout.decode().strip()
    files = {kind: (packs / f"pack-{name}.{kind}").read_bytes() for kind in ("pack", "idx")}
    return {f"workspace/.git/objects/pack/pack-{name}.{kind}": content for kind, content in files.items()}


def fix_as_object(task: LeakyTask) -> dict[str, bytes]:
    oid = git(task.repository, "rev-parse", f"{task.fix}:tiny.py").decode().strip()
    path = f"{oid[:2]}/{oid[2:]}"
    return {f"workspace/.git/objects/{path}": (task.repository / ".git" / "objects" / path).read_bytes()}


def fix_as_bundle(task: LeakyTask) -> dict[str, bytes]:
    git(task.repository, "bundle", "create", "fix.bundle", "main")
    return {"opt/fix": (task.repository / "fix.bundle").read_bytes()}


def fix_in_wheel(task: LeakyTask) -> dict[str, bytes]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny.py", FIXED + "# packed\n" * 9)
    return {"opt/python/lib/bundled.whl": buffer.getvalue()}


def packed(path: str, pack: Callable[[bytes], bytes]) -> Plant:
    """Plant the fixed source, with lines of its own around it, packed in some way."""
    content = f"# before\n{FIXED}# after\n".encode()
    return lambda _: {path: pack(content)}


def as_tar(content: bytes, mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload] -- a mode of the caller's
        info = tarfile.TarInfo("tiny-1.6/tiny.py")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def as_zip(content: bytes, name: str = "tiny.py") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("broken.py", "x = 1\n" * 9)
        archive.writestr(name, content)
    data = bytearray(buffer.getvalue())
    data[60] ^= 0xFF  # of the first file, which hides no other
    return bytes(data)


def as_loose_object(content: bytes) -> bytes:
    return zlib.compress(b"blob %d\0" % len(content) + content)


def index_of_the_fix(task: LeakyTask) -> dict[str, bytes]:
    git(task.repository, "read-tree", "--index-output=.git/other", task.fix)
    return {"workspace/.git/index": (task.repository / ".git" / "other").read_bytes()}


def shallow_at_the_fix(task: LeakyTask) -> dict[str, bytes]:
    return {"workspace/.git/shallow": f"{task.fix}\n".encode()}


def fix_by_name(task: LeakyTask) -> dict[str, bytes]:
    return {"opt/note": f"cherry-pick {task.fix}".encode()}


def task_secret(task: LeakyTask) -> dict[str, bytes]:
    return {"solution/fix.patch": task.package.files["solution/fix.patch"]}


_SITE = "opt/venv/lib/python3/site-packages"
_TIMED = b"\x00" * 16 + b"code"
_UNCHECKED = b"\x00" * 4 + b"\x01\x00\x00\x00" + b"\x00" * 8 + b"code"
PLANTS: dict[str, tuple[Plant, str]] = {
    "a pack with the fix": (fix_as_pack, "git_objects"),
    "a loose object of the fix": (fix_as_object, "git_objects"),
    "a log of git": (at("workspace/.git/logs/HEAD", "0 1 a <b> commit\n"), "git_files"),
    "a tag": (at("workspace/.git/refs/tags/v2", "0" * 40), "git_files"),
    "packed refs": (at("workspace/.git/packed-refs", "0" * 40), "git_files"),
    "a remote": (at("workspace/.git/config", '[remote "origin"]\n\turl = there\n'), "git_files"),
    "the branch moved": (at("workspace/.git/refs/heads/main", "1" * 40), "git_files"),
    "a bundle elsewhere": (fix_as_bundle, "packed_history"),
    "another repository": (at("home/user/clone/.git/HEAD", "ref: refs/heads/main\n"), "packed_history"),
    "a tracked file as the fix has it": (at("workspace/tiny.py", FIXED), "tracked_files"),
    "hidden tests in their place": (at("workspace/tests/test_tiny.py", TESTS), "fix_contents"),
    "hidden tests elsewhere": (at("opt/copy.py", TESTS), "fix_contents"),
    "a name of a hidden test": (at("workspace/plan.txt", f"see {HIDDEN}"), "fix_contents"),
    "a file that is none of the task's": (at("workspace/plan.txt", "nothing"), "workspace_files"),
    "the cache of the test runner": (
        at("workspace/.pytest_cache/v/cache/lastfailed", "{}"),
        "caches",
    ),
    "the cache of an installer": (at("root/.cache/uv/simple", "x"), "caches"),
    "something in /tmp": (at("tmp/left", "x"), "caches"),
    "byte code in the workspace": (at("workspace/__pycache__/tiny.cpython-311.pyc", _UNCHECKED), "byte_code"),
    "byte code with a time": (at(f"{_SITE}/__pycache__/six.cpython-311.pyc", _TIMED), "byte_code"),
    "byte code without a source": (at(f"{_SITE}/__pycache__/gone.cpython-311.pyc", _UNCHECKED), "byte_code"),
    "a build folder": (at("workspace/build/lib/tiny.py", "x = 1\n"), "build_folders"),
    "an egg": (at("workspace/tiny.egg-info/PKG-INFO", METADATA.format("tiny")), "build_folders"),
    "a release of the project": (
        at(f"{_SITE}/Tiny-1.6.dist-info/METADATA", METADATA.format("Tiny")),
        "installed_project",
    ),
    "another version said": (
        at("opt/project/tiny-1.6.dist-info/METADATA", METADATA.format("tiny")),
        "installed_project",
    ),
    "the fix vendored": (at(f"{_SITE}/vendor/other.py", f"import os\n{FIX_LINES}"), "fix_contents"),
    "the fix in a wheel": (fix_in_wheel, "fix_contents"),
    "the fix in a source archive": (packed(f"{_SITE}/tiny-1.6.tar.gz", as_tar), "fix_contents"),
    "the fix in an archive of xz": (packed("opt/x", lambda text: as_tar(text, "w:xz")), "fix_contents"),
    "the fix in an archive of bzip2": (packed("opt/x", lambda text: as_tar(text, "w:bz2")), "fix_contents"),
    "the fix in a plain archive in a zip": (packed("opt/x", lambda text: as_zip(as_tar(text, "w"))), "fix_contents"),
    "the fix in a wheel in a source archive": (packed("opt/x", lambda text: as_tar(as_zip(text))), "fix_contents"),
    "the fix in a program that is a zip": (
        packed("opt/x", lambda text: b"#!/usr/bin/python3\n" + as_zip(text)),
        "fix_contents",
    ),
    "the fix compressed": (packed("opt/x", gzip.compress), "fix_contents"),
    "the fix compressed and cut off": (packed("opt/x", lambda text: gzip.compress(text)[:-4]), "fix_contents"),
    "an object of git under another name": (packed("opt/x", as_loose_object), "fix_contents"),
    "an index that knows the fix": (index_of_the_fix, "git_files"),
    "cut history that names the fix": (shallow_at_the_fix, "git_files"),
    "the fix's commit": (fix_by_name, "fix_contents"),
    "the task's own patch": (task_secret, "fix_contents"),
}
"""By name: what is planted, and the check that has to find it."""


def entries_of(files: Mapping[str, bytes]) -> list[LayerEntry]:
    """Return files as entries of a layer."""
    return [LayerEntry(path=path, mode=0o644, read=giver(content)) for path, content in files.items()]


def deletions_of(files: Mapping[str, bytes]) -> list[LayerEntry]:
    """Return the entries by which a layer deletes files of the layers below."""
    gone = ["/".join([*path.split("/")[:-1], f".wh.{path.rpartition('/')[2]}"]) for path in files]
    return [LayerEntry(path=path, mode=0o644, read=giver(b"")) for path in gone]
