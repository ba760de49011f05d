"""The seam between the miner and a programming language.

The miner knows git, stages, ledgers and gates; a language knows its paths, its code, its environments and its test
runner. Everything that is pure in a language is in `paths` and `code`; the two coroutines run in sandboxes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Protocol

from envfarm.records.image import Folder
from envfarm.records.task import Environment, TestPlan
from envfarm.sandbox.contract import Sandbox
from envfarm_verifiers.test_files import Placement
from envfarm_verifiers.test_run import TestRun
from task_miner.languages.guards import ProposedTest
from task_miner.reasons import ReasonCode
from task_miner.unit import Candidate, PathRole


class PathRules(Protocol):
    """Which path is what, by segments and never by substring. PURE."""

    def role_of(self, path: PurePosixPath) -> PathRole:
        """Say which side of a fix the path belongs to."""
        ...

    def protected_patterns(self, base_paths: frozenset[str], candidate: Candidate) -> tuple[str, ...]:
        """Return the sorted patterns of paths that a submission to this candidate cannot change."""
        ...


@dataclass(frozen=True, kw_only=True)
class ChangedTests:
    """Tests of one file as the syntax tree tells them: names are ``function`` or ``Class::method``.

    Attributes:
        added: Names that only the new file has.
        changed: Names in both whose own body, decorators or parameters differ.
        same: Names in both that are equal.
        shared_changed: Whether anything that several tests share (imports, fixtures, helpers, constants) differs.
        timed: Names in the new file that measure how long something takes.
    """

    added: frozenset[str]
    changed: frozenset[str]
    same: frozenset[str]
    shared_changed: bool
    timed: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One small change of the fix's own code.

    Attributes:
        path: Path in the workspace.
        line: Line in the fixed file.
        operator: What was done, such as ``negate_condition``.
        content: The whole file with the mutation.
    """

    path: str
    line: int
    operator: str
    content: bytes = field(repr=False)


class CodeRules(Protocol):
    """What the syntax trees of old and new files say. PURE. Content is None where a file is absent."""

    def same_behaviour(self, path: PurePosixPath, old: bytes | None, new: bytes | None) -> bool:
        """Say whether the two contents run alike: equal but for comments, formatting, docstrings, annotations."""
        ...

    def changed_tests(self, path: PurePosixPath, old: bytes | None, new: bytes | None) -> ChangedTests:
        """Compare the tests of one file; a file that does not parse counts as all added."""
        ...

    def mutants(self, path: PurePosixPath, old: bytes | None, new: bytes, *, limit: int) -> tuple[Mutant, ...]:
        """Return at most `limit` mutants of the lines that `new` adds to `old`, spread over them, always the same."""
        ...

    def guards(
        self, path: PurePosixPath, old: bytes | None, new: bytes, functions: frozenset[str]
    ) -> tuple[ProposedTest, ...]:
        """Return how tests of a fixed file could be altered, by names of functions without their classes."""
        ...

    def labels_of(self, changes: Mapping[str, tuple[bytes | None, bytes | None]]) -> tuple[str, ...]:
        """Return what kind of work a change of source is: ``lint``, ``typing``; by old and new content of each path."""
        ...


@dataclass(frozen=True, kw_only=True)
class EnvironmentRequest:
    """What a language needs to make an environment for a candidate.

    Attributes:
        candidate: What it is for.
        project: The distribution's own name; it is never among its dependencies.
        project_files: Files of the fixed tree that `Language.describes_project` names, by path: dependencies come from
            here, since the fixed code must run.
        test_files: The candidate's test files and every conftest file as they are after the fix, by path.
        workspace_paths: All paths of the base tree.
        workspace_folder: The base tree on this machine, to build the project from; it is not written to.
        committed_at: The fix's committer time, seconds since the epoch.
        cutoff: Whether no release younger than the fix is taken.
    """

    candidate: Candidate
    project: str
    project_files: Mapping[str, bytes]
    test_files: Mapping[str, bytes]
    workspace_paths: frozenset[str]
    workspace_folder: str
    committed_at: int
    cutoff: bool


@dataclass(frozen=True, kw_only=True)
class PreparedEnvironment:
    """An environment that is installed on this machine, and what building the project left.

    Attributes:
        environment: The pinned description, as it goes into the task.
        folders: What a sandbox mounts for it: environment and interpreter, read-only.
        project_files: What lies at /opt/project, by relative path: metadata, path files, programs.
        project_executables: Those of `project_files` that carry the executable bit.
        generated_files: Files that building wrote into the workspace and the tests may need, by path.
        seconds: Wall-clock seconds per step; 0 for what came from the cache.
    """

    environment: Environment
    folders: tuple[Folder, ...]
    project_files: Mapping[str, bytes]
    project_executables: frozenset[str] = frozenset()
    generated_files: Mapping[str, bytes] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


class EnvironmentFailedError(Exception):
    """No rung of the ladder gave an environment. `code` is the reason, the text is the log's end."""

    def __init__(self, code: ReasonCode, log: str) -> None:
        """Take the closed reason and the end of the log that shows it."""
        super().__init__(f"{code}: {log[-2000:]}")
        self.code = code
        self.log = log


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which tests of a plan are run, and in which order.

    Attributes:
        order_seed: Shuffles; None for file order.
        only_ids: Only these; empty for all.
        stop_ids: End the run once one of these has not passed.
        placement: Hidden tests that are placed first; None runs what is there.
    """

    order_seed: int | None = None
    only_ids: tuple[str, ...] = ()
    stop_ids: tuple[str, ...] = ()
    placement: Placement | None = None


class Language(Protocol):
    """One programming language."""

    @property
    def name(self) -> str:
        """Such as ``python``."""
        ...

    @property
    def paths(self) -> PathRules:
        """Which path is what."""
        ...

    @property
    def code(self) -> CodeRules:
        """What syntax trees say."""
        ...

    def runnable_tests(self, paths: frozenset[str], candidate: Candidate) -> tuple[str, ...]:
        """Return the test files to run for a candidate, of all paths of the fixed tree; sorted."""
        ...

    def describes_project(self, path: PurePosixPath) -> bool:
        """Say whether the file tells how the project is built, what it needs, or how it is tested."""
        ...

    def runner_options(self, project_files: Mapping[str, bytes]) -> tuple[str, ...]:
        """Return options of the project's own configuration that every run of its tests needs."""
        ...

    async def prepare_environment(self, request: EnvironmentRequest) -> PreparedEnvironment:
        """Lock, install and build in sandboxes with the network; cached by lock.

        Raises:
            EnvironmentFailedError: No rung of the ladder worked.
            BoundaryError: The farm failed.
        """
        ...

    async def run_tests(
        self, sandbox: Sandbox, plan: TestPlan, environment: Environment, selection: Selection
    ) -> TestRun:
        """Run the plan's paths once, as the selection says.

        Raises:
            BoundaryError: The box failed, or the hidden tests cannot be placed.
        """
        ...
