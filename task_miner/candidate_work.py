"""What the stages of a candidate share: the workshop of the run, and the work on one candidate so far."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from envfarm.records.task import TaskPackage, TestPlan, ValidationRecord
from envfarm.records.versioned import Record
from envfarm.sandbox.contract import SandboxProvider
from task_miner.issues_file import IssueBook
from task_miner.languages.contract import Language, PreparedEnvironment
from task_miner.ledger import Ledger
from task_miner.options import MineOptions
from task_miner.output_folder import OutputFolder
from task_miner.packaging.archive import ArchiveEntry
from task_miner.packaging.workspace import Workspace
from task_miner.reasons import ReasonCode
from task_miner.report import Observer
from task_miner.sources import Source
from task_miner.unit import Candidate


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What all candidates of a run share.

    Attributes:
        options: What was asked for.
        source: The repository.
        folder: The output folder.
        ledger: Its ledger.
        language: The language of the project.
        provider: Leases the sandboxes.
        observer: Is told what goes on.
        issues: Issues and pull requests from a dump; empty without one.
        boxes: Bounds the boxes that run at one time.
        workspaces: Where tasks are unpacked for their gate; nobody else uses what is in it.
    """

    options: MineOptions
    source: Source
    folder: OutputFolder
    ledger: Ledger
    language: Language
    provider: SandboxProvider
    observer: Observer
    issues: IssueBook
    boxes: anyio.CapacityLimiter
    workspaces: Path


@dataclass(frozen=True, kw_only=True)
class StageEnd:
    """How a stage ended.

    Attributes:
        code: OK, or why the candidate fell.
        detail: One line for people.
        log: Text of the stage's log.
        bytes: Bytes that it left on disk.
    """

    code: ReasonCode = ReasonCode.OK
    detail: str = ""
    log: str = ""
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class CandidateFiles:
    """What is read of a candidate's commits.

    Attributes:
        workspace: The base's tree and history.
        fix_paths: All paths of the fixed tree.
        project_files: Files of the fixed tree that describe the project.
        test_files: Test files of the candidate and all conftest files, after the fix.
        before: Base content of the changed files, by path.
        after: Fixed content of the changed files, by path.
        fix_patch: The source side as a diff.
        test_patch: The test side as a diff.
        reference: Protected files as they have to be.
        removed_paths: Protected files of the base that are no more.
        protected: Patterns of protected paths.
    """

    workspace: Workspace
    fix_paths: frozenset[str]
    project_files: Mapping[str, bytes] = field(repr=False)
    test_files: Mapping[str, bytes] = field(repr=False)
    before: Mapping[str, bytes] = field(repr=False)
    after: Mapping[str, bytes] = field(repr=False)
    fix_patch: bytes = field(repr=False)
    test_patch: bytes = field(repr=False)
    reference: bytes = field(repr=False)
    removed_paths: tuple[str, ...]
    protected: tuple[str, ...]


class ValidationState(Record, frozen=True, kw_only=True, tag="envfarm.validation_state/1"):
    """What the validation of a candidate found, kept until it is published or has fallen."""

    plan: TestPlan
    validation: ValidationRecord
    messages: dict[str, str]


@dataclass(kw_only=True)
class Work:
    """What is known of a candidate so far; each stage adds to it."""

    candidate: Candidate
    scratch: Path
    files: CandidateFiles | None = None
    prepared: PreparedEnvironment | None = None
    entries: tuple[ArchiveEntry, ...] = ()
    validated: ValidationState | None = None
    package: TaskPackage | None = None

    @property
    def project(self) -> str:
        """The distribution's name."""
        return self.candidate.candidate_id.rsplit("-", 1)[0]

    def known_files(self) -> CandidateFiles:
        """Return the files that the environment stage has read."""
        if self.files is None:
            message = "the environment stage comes first"
            raise RuntimeError(message)
        return self.files

    def known_environment(self) -> PreparedEnvironment:
        """Return the environment that the environment stage has made."""
        if self.prepared is None:
            message = "the environment stage comes first"
            raise RuntimeError(message)
        return self.prepared

    def known_validation(self) -> ValidationState:
        """Return what the validate stage has found."""
        if self.validated is None:
            message = "the validate stage comes first"
            raise RuntimeError(message)
        return self.validated

    def known_package(self) -> TaskPackage:
        """Return the task that the package stage has made."""
        if self.package is None:
            message = "the package stage comes first"
            raise RuntimeError(message)
        return self.package


StageWork = Callable[[Workshop, Work], Awaitable[StageEnd]]
