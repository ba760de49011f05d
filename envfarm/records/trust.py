"""What the hidden part of a task holds so that its grading cannot be talked into a 1. PURE.

It is made and calibrated when the task is published: everything here was seen under the true fix, in the task's own
image. It stands in `TRUST_FILE`, which no box that runs a submission ever sees, whoever grades.
"""

from enum import StrEnum

from envfarm.records.versioned import Part, Record

TRUST_FILE = "solution/trust.json"
"""In solution/, since foreign graders copy tests/ into the box that runs the submission."""
ASK_FUNCTION = "__envfarm_ask__"
"""What an altered check calls instead of comparing: ``ask(number, value)`` or ``ask(number, value, token)``."""
TOKEN_FUNCTION = "__envfarm_token__"  # noqa: S105 -- a name, not a secret
"""What stands in a parameter set or variable for an expected value: ``token(number)``."""


class Edit(Part, frozen=True, kw_only=True):
    """Bytes of a fixed test file that another text takes the place of; the number of lines stays the same."""

    path: str
    start: int
    """Offset of the first byte in the file as the reference archive has it."""
    end: int
    """Offset after the last byte."""
    text: str


class Operator(StrEnum):
    """How a value and what is expected of it are compared, outside."""

    EQUAL = "=="
    CONTAINS = "in"
    """What is expected is in the value."""


class ValueCheck(Part, frozen=True, kw_only=True):
    """One comparison of a test whose expected value never enters the box: the file asks instead of telling."""

    number: int
    """What the box names it by; unique in a task."""
    line: int
    operator: Operator
    expected: tuple[str, ...]
    """Python literals. Where the check has tokens, token `n` stands for number ``n - first_token``; else one."""
    known: bool = False
    """Whether the base's own tests tell what is expected: a value all the same has to go out, and is no secret."""
    first_token: int | None = None
    edits: tuple[Edit, ...]


class TwinKind(StrEnum):
    """How a test was altered so that it must fail."""

    LITERAL = "literal"
    """A word or number of a new line exchanged."""
    EXCEPTION = "exception"
    """The class in ``raises`` exchanged."""
    INVERTED = "inverted"
    TAIL = "tail"


STRONG_KINDS = frozenset({TwinKind.LITERAL, TwinKind.EXCEPTION})


class Twin(Part, frozen=True, kw_only=True):
    """The same test, altered so that it fails whenever the submission is right."""

    kind: TwinKind
    line: int
    edits: tuple[Edit, ...]
    strong: bool
    """Looks like ordinary code, fails by assertion under the fix and fails on the base as well."""
    failures: dict[str, str]
    """By node id of the real test: name of the exception with which the altered one fails under the fix."""


class ProtectedTest(Part, frozen=True, kw_only=True):
    """One definition of a test, whatever number of node ids runs it (parameter sets, subclasses)."""

    path: str
    name: str
    """``function`` or ``Class::method``, as the file has it."""
    ids: tuple[str, ...]
    """Every node id that runs it, in the order of collection; ids of an altered file are matched by position."""
    fail_to_pass: tuple[str, ...]
    """Those of them that the fix has to mend."""
    checks: tuple[ValueCheck, ...] = ()
    asked: dict[str, tuple[int, ...]] = {}
    """By node id: numbers of the checks that the true fix's run asked; the submission's has to ask each as well."""
    twins: tuple[Twin, ...] = ()
    runs_alone: bool = True
    """Whether it passes under the true fix in a small run as well; otherwise no small run speaks of it."""


class Calibration(Part, frozen=True, kw_only=True):
    """What the true fix's own run shows: the same in a submission's run is no alarm."""

    audit_kinds: tuple[str, ...] = ()
    """Kinds of audit findings."""
    changed_names: tuple[str, ...] = ()
    """Names of the runner that differ between the two snapshots."""
    unchecked_paths: tuple[str, ...] = ()
    """Protected files that the tests themselves write to."""


class TrustPlan(Record, frozen=True, kw_only=True, tag="envfarm.trust/1"):
    """Everything that the layers know of a task."""

    tests: tuple[ProtectedTest, ...] = ()
    canary_files: tuple[str, ...] = ()
    """Test files to which an always-failing test can be added."""
    calibration: Calibration = Calibration()
