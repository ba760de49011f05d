"""The leak audit: nothing that a policy is given tells the fix.

It looks at the bytes that are published, not at how they were made: the archive of the workspace as git and the file
system see it, what installing the project left, the lock, the statement, the Dockerfile. Each check is named; a
published task has the word ``clean`` behind all of them, and a digest over the certificate.

Covered: git objects, refs, logs and other files of .git; file contents; caches, byte code, build folders; the installed
distribution's version; the lock; statement and Dockerfile. Not covered: what a policy knows from its own training.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import msgspec

from envfarm.errors import RepositoryError
from envfarm.records.task import DOCKERFILE, PROJECT_FOLDER, LeakCertificate, TaskPackage
from task_miner.sources.git_command import run_git

CLEAN = "clean"
_LONG_LINE = 40
_SHORT_HASH = 7
_GIT_FILES = re.compile(r"(HEAD|config|index|shallow|refs/heads/main|objects/pack/pack-[0-9a-f]{40}\.(pack|idx))\Z")
_LEFTOVERS = re.compile(
    r"(^|/)(__pycache__|\.pytest_cache|\.mypy_cache|\.tox|\.nox|build|dist|[^/]+\.egg-info)/|\.py[co]\Z"
)


@dataclass(frozen=True, kw_only=True)
class AuditRequest:
    """What to audit, and what must not be in it.

    Attributes:
        package: The task.
        workspace: Its workspace archive, unpacked.
        tracked: Paths of the base's tree.
        fix_commits: Ids of commits that the base does not have: the fix, and a merged branch's.
        fix_objects: Ids of objects that only the fix has.
        fixed_contents: Contents that only the fix has, of source and test files.
        test_names: Names of hidden tests that the base does not have.
        project: The distribution's name.
    """

    package: TaskPackage
    workspace: Path
    tracked: frozenset[str]
    fix_commits: frozenset[str]
    fix_objects: frozenset[str]
    fixed_contents: tuple[bytes, ...] = field(repr=False)
    test_names: frozenset[str]
    project: str


def audit(request: AuditRequest) -> LeakCertificate:
    """Return the certificate; a check that is not clean says what was found."""
    checks: Mapping[str, Callable[[AuditRequest], str]] = {
        "git_objects": _git_objects,
        "git_files": _git_files,
        "file_contents": _file_contents,
        "leftovers": _leftovers,
        "installed_version": _installed_version,
        "lock": _lock,
        "statement": _statement,
        "dockerfile": _dockerfile,
    }
    found = {name: check(request) for name, check in checks.items()}
    digest = hashlib.sha256(msgspec.json.encode([request.package.task.task_id, found], order="deterministic"))
    return LeakCertificate(checks=found, sha256=digest.hexdigest())


def first_leak(certificate: LeakCertificate) -> str | None:
    """Return the first check that is not clean, with what was found; None where all are."""
    return next((f"{name}: {said}" for name, said in certificate.checks.items() if said != CLEAN), None)


def _git_objects(request: AuditRequest) -> str:
    folder = request.workspace / ".git"
    if not folder.is_dir():
        return CLEAN
    try:
        listed = run_git(folder, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)", "--unordered")
        reachable = run_git(folder, "rev-list", "--objects", "--no-object-names", "HEAD")
    except RepositoryError as error:
        return f"the repository cannot be read: {error}"
    present = set(listed.decode().split())
    commits = sorted(present & request.fix_commits)
    if commits:
        return f"the fix's own commit {commits[0]}"
    stray = present - set(reachable.decode().split())
    leaked = sorted(stray & request.fix_objects) or sorted(stray)
    return f"the object {leaked[0]}, which the base does not reach" if leaked else CLEAN


def _git_files(request: AuditRequest) -> str:
    folder = request.workspace / ".git"
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and not _GIT_FILES.match(name):
            return f".git/{name}"
    return CLEAN


def _file_contents(request: AuditRequest) -> str:
    wanted = {hashlib.sha256(content).digest() for content in request.fixed_contents if content.strip()}
    for path in _files(request.workspace):
        if hashlib.sha256((request.workspace / path).read_bytes()).digest() in wanted:
            return f"{path} is as the fix has it"
    return CLEAN


def _leftovers(request: AuditRequest) -> str:
    for path in _files(request.workspace):
        if path not in request.tracked and _LEFTOVERS.search(path):
            return path
    return CLEAN


def _installed_version(request: AuditRequest) -> str:
    """The version that the project says of itself must not be one that only the fix names."""
    added = _added_lines(request.package)
    for path, content in request.package.files.items():
        if path.startswith(f"{PROJECT_FOLDER}/") and PurePosixPath(path).name == "METADATA":
            match = re.search(rb"^Version: (.+)$", content, re.MULTILINE)
            version = match[1].decode("utf-8", "replace").strip() if match else ""
            if version and any(re.search(rf"version.*{re.escape(version)}\b", line, re.IGNORECASE) for line in added):
                return f"{version}, which only the fix names"
    return CLEAN


def _lock(request: AuditRequest) -> str:
    name = re.sub(r"[-_.]+", "[-_.]+", request.project)
    found = re.search(rf"^{name}==\S*", request.package.task.environment.lock, re.MULTILINE | re.IGNORECASE)
    return found[0] if found else CLEAN


def _statement(request: AuditRequest) -> str:
    text = request.package.task.statement.text
    for commit in sorted(request.fix_commits):
        if commit[:_SHORT_HASH] in text:
            return f"the commit {commit[:_SHORT_HASH]}"
    for name in sorted(request.test_names):
        if re.search(rf"\b{re.escape(name)}\b", text):
            return f"the hidden test {name}"
    lines = (line.strip() for line in _added_lines(request.package))
    long = [line for line in lines if len(line) >= _LONG_LINE and not line.startswith(("#", '"', "'"))]
    return next((f"a line of the fix: {line[:60]}" for line in long if line in text), CLEAN)


def _dockerfile(request: AuditRequest) -> str:
    text = request.package.files[DOCKERFILE].decode("utf-8", "replace")
    return next((f"the commit {commit[:12]}" for commit in request.fix_commits if commit[:12] in text), CLEAN)


def _files(folder: Path) -> Iterable[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            name = path.relative_to(folder).as_posix()
            if not name.startswith(".git/"):
                yield name


def _added_lines(package: TaskPackage) -> list[str]:
    patch = package.files["solution/fix.patch"].decode("utf-8", "replace")
    return [line[1:] for line in patch.splitlines() if line.startswith("+") and not line.startswith("+++")]
