"""The leak audit: nothing that a policy is given tells the fix.

It looks at the bytes that are published, not at how they were made: the workspace as git and the file system see it,
what installing the project left, the lock, the statement, the Dockerfile. Each check is named; a published task has the
word ``clean`` behind all of them, and a digest over the certificate.

Covered: git objects, refs, logs, index and settings; tracked files that are not as the base has them; contents and long
lines of the fix in files that git does not track; caches, byte code, build folders; the installed distribution; the
lock; statement and Dockerfile. Not covered: what a policy knows from its own training; a fix that the base's own
history holds, as when it puts back what an older commit had.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from envfarm.records.task import DOCKERFILE, PROJECT_FOLDER, LeakCertificate, TaskPackage
from task_miner.quality.fix_traces import CLEAN, FixTraces
from task_miner.quality.git_audit import BaseTree, find_in_git_files, find_in_git_objects, read_base_tree
from task_miner.quality.installed_audit import find_in_lock, find_in_version
from task_miner.quality.statement_audit import find_in_statement

_LEFTOVERS = re.compile(
    r"(^|/)(__pycache__|\.pytest_cache|\.mypy_cache|\.ruff_cache|\.hypothesis|\.tox|\.nox|\.eggs|build|dist|[^/]+\.egg-info)/"
    r"|(^|/)\.coverage$|\.(py[co]|orig|rej)$"
)
_FETCHES = re.compile(r"\bgit\s+(clone|fetch|pull)\b|\b(curl|wget)\s|^ADD\s+https?:", re.MULTILINE)


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

    def traces(self) -> FixTraces:
        """Return what a leak would show."""
        return FixTraces.of(self.package, self.fix_commits, self.fixed_contents)


def audit(request: AuditRequest) -> LeakCertificate:
    """Return the certificate; a check that is not clean says what was found. Blocking work: git and files."""
    base = read_base_tree(request.workspace, request.package.task.source.base_commit)
    traces = request.traces()
    package = request.package
    checks: Mapping[str, Callable[[], str]] = {
        "git_objects": lambda: find_in_git_objects(base, request.fix_commits, request.fix_objects),
        "git_files": lambda: find_in_git_files(base),
        "tracked_files": lambda: _tracked_files(request, base),
        "file_contents": lambda: _file_contents(request, base, traces),
        "leftovers": lambda: _leftovers(request, base),
        "installed_project": lambda: _installed_project(package, base, traces),
        "installed_version": lambda: find_in_version(package, _base_file(request, "pyproject.toml")),
        "lock": lambda: find_in_lock(package.task, request.project),
        "statement": lambda: find_in_statement(package.task, traces, request.test_names),
        "dockerfile": lambda: _dockerfile(package, traces),
    }
    found = {name: check() for name, check in checks.items()}
    digest = hashlib.sha256(msgspec.json.encode([package.task.task_id, found], order="deterministic"))
    return LeakCertificate(checks=found, sha256=digest.hexdigest())


def first_leak(certificate: LeakCertificate) -> str | None:
    """Return the first check that is not clean, with what was found; None where all are."""
    return next((f"{name}: {said}" for name, said in certificate.checks.items() if said != CLEAN), None)


def _tracked_files(request: AuditRequest, base: BaseTree) -> str:
    """Every file that git tracks has to be as the base has it."""
    if base.problem or not base.blobs:
        return base.problem or CLEAN
    if not request.tracked <= base.blobs.keys() | base.submodules:
        return f"{min(request.tracked - base.blobs.keys() - base.submodules)} is not in the base's tree"
    for path in base.blobs:
        problem = base.problem_of(path)
        if problem:
            return problem
    return CLEAN


def _file_contents(request: AuditRequest, base: BaseTree, traces: FixTraces) -> str:
    """Files that git does not track (building wrote them) hold nothing of the fix, unless the base holds it as well."""
    for path in base.untracked:
        content = (request.workspace / path).read_bytes()
        trace = traces.find(content)
        if trace is not None and not base.holds(trace):
            return f"{path} holds {trace.told}"
    return CLEAN


def _leftovers(request: AuditRequest, base: BaseTree) -> str:
    found = [path for path in base.untracked if path not in request.tracked and _LEFTOVERS.search(path)]
    return found[0] if found else CLEAN


def _installed_project(package: TaskPackage, base: BaseTree, traces: FixTraces) -> str:
    for path, content in sorted(package.files.items()):
        trace = traces.find(content) if path.startswith(f"{PROJECT_FOLDER}/") else None
        if trace is not None and not base.holds(trace):
            return f"{path} holds {trace.told}"
    return CLEAN


def _dockerfile(package: TaskPackage, traces: FixTraces) -> str:
    content = package.files[DOCKERFILE]
    trace = traces.find(content)
    if trace is not None:
        return f"it holds {trace.told}"
    fetches = _FETCHES.search(content.decode("utf-8", "replace"))
    return f"it fetches something: {fetches[0]}" if fetches else CLEAN


def _base_file(request: AuditRequest, path: str) -> bytes:
    file = request.workspace / path
    return file.read_bytes() if file.is_file() and not file.is_symlink() else b""
