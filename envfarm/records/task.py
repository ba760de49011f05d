"""A task: a statement, an environment, and tests that fail before the fix and pass after it.

`Task` holds what is said about a task, `TaskPackage` adds the bytes of its folder. Neither knows where the folder
lies: `envfarm.formats.harbor` reads and writes it. Nothing here depends on when or where the task was mined.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from envfarm.records.versioned import Part, Record


class TestClass(StrEnum):
    """What became of a test between the base and the fix (mining.md, "Validation")."""

    __test__ = False

    F2P = "fail_to_pass"
    C2P = "collection_error_to_pass"
    T2P = "timeout_to_pass"
    N2P = "none_to_pass"
    S2P = "skipped_to_pass"
    P2P = "pass_to_pass"
    FLAKY = "flaky"
    UNSTABLE_ID = "unstable_id"
    ORDER_DEPENDENT = "order_dependent"
    BROKEN = "not_passing_after"
    """Does not pass after the fix in every run, and never did: neither required nor counted."""


class StatementSource(StrEnum):
    """Where the words of a statement come from, best first."""

    ISSUE = "issue"
    PULL_REQUEST = "pull_request"
    CHANGELOG = "changelog"
    COMMIT_MESSAGE = "commit_message"
    TEST_REPORT = "test_report"


class LinkKind(StrEnum):
    """What a link points at."""

    ISSUE = "issue"
    PULL_REQUEST = "pull_request"


class Link(Part, frozen=True, kw_only=True):
    """An issue or pull request that belongs to the fix."""

    kind: LinkKind
    number: int
    confidence: float
    """0 to 1: closing keywords are 0.95 or more, a bare mention less."""
    found_in: str
    """The rule that found it: closing_keyword, squash_trailer, merge_subject, pull_ref, mention."""


class Statement(Part, frozen=True, kw_only=True):
    """What the policy is told to do."""

    text: str
    source: StatementSource
    flags: tuple[str, ...] = ()
    """Such as ``short``, ``names_function``, ``no_expected_behaviour``; a closed list in docs/statements.md."""


class SourceCommit(Part, frozen=True, kw_only=True):
    """Where in history the task comes from."""

    project: str
    """The distribution's name, else the repository's; never a path of a machine."""
    base_commit: str
    fix_commit: str
    committed_at: str
    """The fix's committer date, ISO 8601 in UTC."""
    unit_kind: str
    """merge, squash, plain or release."""
    links: tuple[Link, ...] = ()
    labels: tuple[str, ...] = ()
    """Such as ``lint`` or ``typing``."""
    license: str | None = None


class EnvironmentStep(Part, frozen=True, kw_only=True):
    """One command or decision of the environment ladder, with the reason it was made."""

    command: tuple[str, ...]
    reason: str


class Environment(Record, frozen=True, kw_only=True, tag="envfarm.environment/1"):
    """A pinned environment. Commits with the same lock share one."""

    environment_id: str
    """``py3.11-`` and the first 16 hex digits of the lock's SHA-256 together with the recipe's version."""
    language: str = "python"
    interpreter: str
    """Minor version, such as ``3.11``."""
    lock: str
    """Requirements with hashes, as pip and uv read them, sorted; the project itself is never in it."""
    lock_sha256: str
    cutoff: str | None = None
    """No release younger than this was taken; ISO 8601 in UTC, or None."""
    steps: tuple[EnvironmentStep, ...] = ()
    test_plugins: tuple[str, ...] = ()
    """Runner plug-ins of the environment that the tests need, named explicitly (pytest: importable module names)."""
    environment_variables: dict[str, str] = {}


class TestPlan(Part, frozen=True, kw_only=True):
    """How the tests are run, and which of them decide."""

    __test__ = False

    runner: str = "pytest"
    paths: tuple[str, ...]
    """Test files that are run, relative to the workspace."""
    options: tuple[str, ...] = ()
    run_timeout_seconds: float = 600.0
    test_timeout_seconds: float = 60.0
    fail_to_pass: tuple[str, ...] = ()
    """Ids of classes F2P, C2P, T2P, N2P and S2P; sorted."""
    pass_to_pass: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    """Path patterns that belong to the grader (envfarm.grading.protected_paths); a submission cannot change them."""
    removed_paths: tuple[str, ...] = ()
    """Protected files of the base that the test patch deletes."""


class Control(Part, frozen=True, kw_only=True):
    """One row of the publish gate: a submission, the reward it had to get, the rewards it got."""

    name: str
    expected_reward: float
    rewards: tuple[float, ...]
    reason: str = ""


class LeakCertificate(Part, frozen=True, kw_only=True):
    """What the leak audit looked at, and that it found nothing."""

    checks: dict[str, str]
    """By check: ``clean``, or what was found. A published task has only ``clean``."""
    sha256: str


class MutationScore(Part, frozen=True, kw_only=True):
    """How many mutants of the fix's own lines the tests kill."""

    mutants: int
    killed: int
    survivors: tuple[str, ...] = ()
    """``path:line: operator`` of mutants that the tests accept; at most 20."""


class Protection(Part, frozen=True, kw_only=True):
    """How the functions with deciding tests are protected against forged passes; each counts once, as its best."""

    values: int = 0
    """By expected values that never enter the box, and that the base gets wrong."""
    strong_twins: int = 0
    """By altered tests that look like ordinary code."""
    weak_twins: int = 0
    none: int = 0


class Quality(Part, frozen=True, kw_only=True):
    """What the publish gate measured."""

    controls: tuple[Control, ...] = ()
    leak_certificate: LeakCertificate | None = None
    mutation: MutationScore | None = None
    class_counts: dict[str, int] = {}
    validation_runs: int = 0
    calibration_runs: int = 0
    """Runs of the deciding tests, and a few of all, that the layers of grading were calibrated with."""
    protection: Protection | None = None


class Task(Record, frozen=True, kw_only=True, tag="envfarm.task/1"):
    """What is said about a task."""

    task_id: str
    statement: Statement
    source: SourceCommit
    environment: Environment
    tests: TestPlan
    quality: Quality = Quality()
    verifier: str = "unit_tests"
    """Entry-point name of the verifier that judges it."""
    verifier_config: dict[str, Any] = {}


class StageRun(Part, frozen=True, kw_only=True):
    """The outcomes of one validation run; test ids map to outcomes' values."""

    stage: str
    """base_old_tests, base_new_tests or fixed_new_tests."""
    order_seed: int | None
    """None for file order."""
    outcomes: dict[str, str]
    collection_errors: tuple[str, ...] = ()
    """Paths of files that could not be collected."""
    session_ended: bool = True
    timed_out: bool = False


class ValidationRecord(Record, frozen=True, kw_only=True, tag="envfarm.validation/1"):
    """All runs of all stages and the class of each test: the proof behind `TestPlan`."""

    runs: tuple[StageRun, ...]
    classes: dict[str, TestClass]


# Where things lie in a task folder, relative to it. One place, because four packages agree on it.
STATEMENT_FILE = "instruction.md"
TASK_FILE = "task.toml"
DOCKERFILE = "environment/Dockerfile"
LOCK_FILE = "environment/requirements.txt"
PROJECT_FOLDER = "environment/project"
"""What installing the project at its base puts on the path of Python; lies at /opt/project in a sandbox."""
WORKSPACE_ARCHIVE = "environment/workspace.tar.xz"
"""The workspace at the base: tree, generated files, and .git with ancestors of the base only."""
TEST_PATCH = "tests/test.patch"
REFERENCE_ARCHIVE = "tests/reference.tar.xz"
"""Every protected file as it has to be when the tests run: the base's, with the test patch applied."""
EXPECTED_FILE = "tests/expected.json"
VALIDATION_FILE = "tests/validation.json"
FIX_PATCH = "solution/fix.patch"


@dataclass(frozen=True)
class TaskPackage:
    """A task and the bytes of its folder.

    Attributes:
        task: What is said about the task.
        files: Content by path relative to the folder, POSIX, `task.toml` included.
        executable: Paths of `files` that carry the executable bit.
        digest: Harbor's package digest of the folder, ``sha256:`` and 64 hex digits.
    """

    task: Task
    files: Mapping[str, bytes] = field(repr=False)
    executable: frozenset[str] = frozenset({"tests/test.sh", "solution/solve.sh"})
    digest: str = ""
