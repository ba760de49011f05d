"""A tiny real task for every test that grades: a project with a bug, its fix, hidden tests, and an environment.

The environment is made of the pytest that runs this suite, so nothing is downloaded.
"""

import importlib.metadata
import shutil
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import msgspec

from envfarm.formats.harbor import write_package
from envfarm.grading.contract import Verifier
from envfarm.grading.grade import grade
from envfarm.grading.workspace_diff import diff_workspace
from envfarm.images.prepare import compose_image
from envfarm.records.image import Folder, Image
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import (
    FIX_PATCH,
    REFERENCE_ARCHIVE,
    Environment,
    SourceCommit,
    Statement,
    StatementSource,
    Task,
    TaskPackage,
    TestPlan,
    ValidationRecord,
)
from envfarm.records.verdict import Verdict
from envfarm.sandbox.contract import ENVIRONMENT, PROJECT, WORKSPACE
from envfarm.sandbox.local.provider import open_local_provider
from envfarm_verifiers.unit_tests import UnitTestsVerifier
from task_miner.packaging.archive import ArchiveEntry, write_archive
from task_miner.packaging.package import PackageParts, build_package

_PYTEST = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
_BROKEN = "def add(a, b):\n    return a - b\n\n\ndef greet(name):\n    return f'hello {name}'\n"
_FIXED = _BROKEN.replace("a - b", "a + b")
_OLD_TESTS = "from tiny import greet\n\n\ndef test_greet():\n    assert greet('you') == 'hello you'\n"
_NEW_TESTS = (
    _OLD_TESTS.replace("import greet", "import add, greet") + "\n\ndef test_add():\n    assert add(2, 3) == 5\n"
)
_MORE_TESTS = "from tiny import add\n\n\ndef test_more():\n    assert add(add(1, 1), 1) == 3\n"
_CONFTEST = "import pytest\n"
TINY_BASE: Mapping[str, str] = {
    "pyproject.toml": "[project]\nname = 'tiny'\nversion = '1'\n",
    "src/tiny/__init__.py": _BROKEN,
    "tests/conftest.py": _CONFTEST,
    "tests/test_tiny.py": _OLD_TESTS,
}
_PROTECTED = ("**/conftest.py", "**/setup.cfg", "**/test_*.py", "**/tox.ini", "pyproject.toml", "tests/**")


@dataclass(frozen=True, kw_only=True)
class TinyTask:
    """A task that can be graded at once."""

    package: TaskPackage
    image: Image
    folder: Path
    fixed: str = _FIXED
    broken: str = _BROKEN
    base: Mapping[str, str] = field(default_factory=lambda: TINY_BASE)

    def patch(self, changes: Mapping[str, str | None], *, links: Mapping[str, str] | None = None) -> bytes:
        """Return the diff of some changes to the base; None deletes."""
        changed = self.folder / "changed"
        shutil.rmtree(changed, ignore_errors=True)
        shutil.copytree(self.folder / "workspace", changed, symlinks=True)
        for path, content in changes.items():
            target = changed / path
            if content is None:
                target.unlink()
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.encode())
        for path, target_text in (links or {}).items():
            (changed / path).unlink(missing_ok=True)
            (changed / path).symlink_to(target_text)
        return anyio.run(diff_workspace, self.folder / "workspace", changed)

    def write(self, folder: Path, cache: Path) -> Path:
        """Write the task as a folder, its environment into a cache as if it was installed; return the first."""
        entries = (ArchiveEntry(path, text.encode()) for path, text in self.base.items())
        parts = PackageParts(
            task=self.package.task,
            validation=ValidationRecord(runs=(), classes={}),
            workspace_archive=write_archive(entries, modified_at=0),
            reference_archive=self.package.files[REFERENCE_ARCHIVE],
            test_patch=b"",
            fix_patch=self.package.files[FIX_PATCH],
            project_files={"tiny.pth": f"{WORKSPACE}/src\n".encode()},
        )
        write_package(build_package(parts), folder)
        environments = cache / "environments"
        environments.mkdir(parents=True)
        (environments / self.package.task.environment.environment_id).symlink_to(self.folder / "venv")
        return folder

    def submit(self, patch: bytes) -> Submission:
        """Return a patch as a submission."""
        return Submission(task_id=self.package.task.task_id, kind=SubmissionKind.PATCH, patch=patch)

    def grade(self, patch: bytes | Submission, *, verifier: Verifier | None = None, **config: object) -> Verdict:
        """Grade a patch in the local jail."""
        submission = self.submit(patch) if isinstance(patch, bytes) else patch
        task = msgspec.structs.replace(self.package.task, verifier_config=dict(config))

        async def run() -> Verdict:
            async with open_local_provider({}) as provider:
                return await grade(
                    replace(self.package, task=task),
                    submission,
                    provider=provider,
                    image=self.image,
                    verifier=verifier or UnitTestsVerifier(),
                )

        return anyio.run(run)


def make_environment(folder: Path, *more: str) -> tuple[Folder, ...]:
    """Make an environment of this interpreter, this pytest and `more` that is here; return what a box mounts for it."""
    venv.create(folder, with_pip=False, symlinks=True)
    packages = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    for name in (*_PYTEST, *more):
        for file in importlib.metadata.files(name) or ():
            if not file.is_absolute() and ".." not in file.parts and "__pycache__" not in file.parts:
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), target)
    (packages / "zz_envfarm_project.pth").write_text(f"import site; site.addsitedir('{PROJECT}')\n")
    mounted = Folder(source=str(folder), target=str(ENVIRONMENT))
    if sys.base_prefix == "/usr":
        return (mounted,)
    prefix = str(Path(sys.base_prefix).resolve())
    return (mounted, Folder(source=prefix, target=prefix))


def make_tiny_task(folder: Path) -> TinyTask:
    """Make the tiny task and its image in an empty folder."""
    environment = make_environment(folder / "venv")
    for path, content in TINY_BASE.items():
        (folder / "workspace" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "workspace" / path).write_text(content)
    (folder / "project").mkdir()
    (folder / "project" / "tiny.pth").write_text(f"{WORKSPACE}/src\n")
    image = compose_image(environment, project=folder / "project", workspace=folder / "workspace", variables={})
    reference = {path: TINY_BASE[path] for path in ("pyproject.toml", "tests/conftest.py")}
    reference |= {"tests/test_tiny.py": _NEW_TESTS, "tests/test_more.py": _MORE_TESTS}
    archive = write_archive((ArchiveEntry(path, text.encode()) for path, text in reference.items()), modified_at=0)
    task = Task(
        task_id="tiny-0001",
        statement=Statement(text="add() subtracts", source=StatementSource.COMMIT_MESSAGE),
        source=SourceCommit(
            project="tiny",
            base_commit="0" * 40,
            fix_commit="1" * 40,
            committed_at="2024-01-01T00:00:00Z",
            unit_kind="plain",
        ),
        environment=Environment(
            environment_id="tiny", interpreter=f"3.{sys.version_info.minor}", lock="", lock_sha256="", cutoff=None
        ),
        tests=TestPlan(
            paths=("tests/test_more.py", "tests/test_tiny.py"),
            run_timeout_seconds=60.0,
            test_timeout_seconds=20.0,
            fail_to_pass=("tests/test_more.py::test_more", "tests/test_tiny.py::test_add"),
            pass_to_pass=("tests/test_tiny.py::test_greet",),
            protected=_PROTECTED,
        ),
    )
    tiny = TinyTask(package=TaskPackage(task=task, files={REFERENCE_ARCHIVE: archive}), image=image, folder=folder)
    files = {REFERENCE_ARCHIVE: archive, FIX_PATCH: tiny.patch({"src/tiny/__init__.py": _FIXED})}
    return replace(tiny, package=replace(tiny.package, files=files))
