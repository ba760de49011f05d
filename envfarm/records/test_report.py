"""A test report: what one run of a test suite said, in one shape for every language and runner."""

from enum import StrEnum

from envfarm.records.versioned import Part, Record


class TestOutcome(StrEnum):
    """How one test ended. `MISSING` is for a test that another run has and this one has not."""

    __test__ = False

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    """Set-up, tear-down or collection raised."""
    SKIPPED = "skipped"
    XFAILED = "xfailed"
    XPASSED = "xpassed"
    TIMEOUT = "timeout"
    """The test's own time limit ended it, or the run's limit came while it ran."""
    MISSING = "missing"


class TestDetail(Part, frozen=True, kw_only=True):
    """What is known of one test beyond its outcome."""

    __test__ = False

    message: str = ""
    """The tail of the failure's text, at most 4,000 characters."""
    seconds: float = 0.0
    error: str = ""
    """Name of the exception that decided, where the runner told it."""


class Asked(Part, frozen=True, kw_only=True):
    """A value that a test asked about instead of comparing it (envfarm.records.trust)."""

    test: str
    """Id of the test that asked."""
    check: int
    token: int | None = None
    value: str | None = None
    """Tagged lists as JSON, as box_programs/ask.py writes them; None for what is not plain data."""
    type_name: str = ""


class Finding(Part, frozen=True, kw_only=True):
    """Something that submitted code was seen doing to the process that runs the tests."""

    kind: str
    """Of the closed list in box_programs/audit_hook.py; ``changed`` for what differs between the two snapshots."""
    where: str
    """``path:line``, or the dotted name of what was changed."""
    what: str = ""


class TestReport(Record, frozen=True, kw_only=True, tag="envfarm.test_report/1"):
    """What one run of a test suite said.

    Only a report with `session_ended` speaks for tests it does not name; a report without it was cut short.
    """

    __test__ = False

    outcomes: dict[str, TestOutcome] = {}
    """By test id; for pytest the node id, relative to the workspace."""
    details: dict[str, TestDetail] = {}
    """By test id; only for tests that did not pass."""
    collection_errors: dict[str, str] = {}
    """By path of the file that could not be collected: the tail of the error."""
    duplicate_ids: tuple[str, ...] = ()
    """Ids that ended more than once in one run; their last outcome stands in `outcomes`."""
    session_ended: bool = False
    """Whether the runner's own end-of-session record came, with the right nonce."""
    exit_status: int | None = None
    """The runner's exit status from its end-of-session record."""
    problems: tuple[str, ...] = ()
    """What is wrong with the report itself: malformed lines, a foreign nonce, records after the end."""
    collected: tuple[str, ...] = ()
    """Ids in the order of collection."""
    origins: dict[str, tuple[str, int]] = {}
    """By id: file and first line of the test's own code."""
    code_hashes: dict[str, str] = {}
    """By id: hash of the test function's code after it ran."""
    asked: tuple[Asked, ...] = ()
    findings: tuple[Finding, ...] = ()
    """What the audit hook and the snapshots saw."""
