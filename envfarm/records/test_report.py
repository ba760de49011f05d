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
