"""What test runners print per test, as data: regular expressions and the words of their outcomes. PURE.

A SWE-bench task names its parser; the name selects a format of this table. Ids come out as that benchmark's lists have
them, since they are what is compared. The source of a parser that a data set brings is never run.

Not here, and refused by name: parsers of runners that need more than one line at a time, but Django's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from envfarm.errors import TaskError


class Status(StrEnum):
    """The outcome of a test, in SWE-bench's words."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    ERROR = "ERROR"
    SKIPPED = "SKIPPED"
    XFAIL = "XFAIL"


@dataclass(frozen=True)
class LineRule:
    """One form of a line.

    Attributes:
        pattern: Finds the group ``test`` in the line and, unless `status` is fixed, the group ``word``.
        status: What all such lines mean; None where the word tells.
    """

    pattern: re.Pattern[str]
    status: Status | None = None


@dataclass(frozen=True, kw_only=True)
class LogFormat:
    """What one runner prints.

    Attributes:
        rules: Forms of lines; the first that fits counts. A later line about a test wins over an earlier one.
        words: What the runner's words mean.
        removed: Is taken out of every line first.
        line_rewrites: Pattern and replacement, done to every line.
        id_rewrites: The same, done to ids.
        strips: Whether lines are read without the space around them.
        joins_spaces: Whether runs of spaces in an id are one.
        begun: Finds the group ``test`` in a line that may end elsewhere, because something else was printed there.
        ended: What the end of such a line looks like, on a line of its own: the test passed.
    """

    rules: tuple[LineRule, ...]
    words: Mapping[str, Status]
    removed: re.Pattern[str] | None = None
    line_rewrites: tuple[tuple[re.Pattern[str], str], ...] = ()
    id_rewrites: tuple[tuple[re.Pattern[str], str], ...] = ()
    strips: bool = True
    joins_spaces: bool = False
    begun: re.Pattern[str] | None = None
    ended: re.Pattern[str] | None = None

    def parse(self, log: str) -> dict[str, Status]:
        """Return the status of each test that the log tells of."""
        found: dict[str, Status] = {}
        open_test: str | None = None
        for raw in log.split("\n"):
            line = self._cleaned(raw)
            found.update(self._read(line))
            begun = self.begun.search(line) if self.begun is not None else None
            if begun is not None:
                open_test = begun["test"]
            if open_test is not None and self.ended is not None and self.ended.search(line):
                found[open_test] = Status.PASSED
        return found

    def _cleaned(self, line: str) -> str:
        if self.removed is not None:
            line = self.removed.sub("", line)
        for pattern, replacement in self.line_rewrites:
            line = pattern.sub(replacement, line)
        return line.strip() if self.strips else line.rstrip("\r")

    def _read(self, line: str) -> list[tuple[str, Status]]:
        for rule in self.rules:
            match = rule.pattern.search(line)
            if match is None:
                continue
            status = rule.status if rule.status is not None else self.words.get(match["word"])
            if status is None:
                return []
            test = match["test"]
            for pattern, replacement in self.id_rewrites:
                test = pattern.sub(replacement, test)
            return [(" ".join(test.split()) if self.joins_spaces else test, status)]
        return []


def _rule(pattern: str, status: Status | None = None) -> LineRule:
    return LineRule(re.compile(pattern), status)


_PYTEST_WORDS = {str(status): status for status in Status}
_WORD = r"(?P<word>PASSED|FAILED|ERROR|SKIPPED|XFAIL)"
_SKIPPED_PLACES = r"(?!SKIPPED\s+\[\d+\]\s)"
"""``SKIPPED [2] file:line: reason`` counts tests at a place, and names none."""
_FIRST_WORD = _rule(rf"^{_SKIPPED_PLACES}{_WORD}\s+(?P<test>\S+)")
_PYTEST = LogFormat(rules=(_FIRST_WORD,), words=_PYTEST_WORDS, strips=False)
_PYTEST_OPTIONS = LogFormat(
    rules=(_FIRST_WORD,),
    words=_PYTEST_WORDS,
    strips=False,
    id_rewrites=((re.compile(r"^(.*?)\[/(?!/)(?:[^*]*/)?([^/*]*)\].*$"), r"\1[/\2]"),),
)
_PYTEST_WHOLE_IDS = LogFormat(
    rules=(
        _rule(r"^FAILED\s+(?P<test>\S.*?)(?: - .*)?$", Status.FAILED),
        _rule(rf"^{_SKIPPED_PLACES}{_WORD}\s+(?P<test>\S.*)$"),
        _rule(rf"^(?!(?:PASSED|FAILED|ERROR|SKIPPED|XFAIL))(?P<test>\S.*?)\s+{_WORD}$"),
    ),
    words=_PYTEST_WORDS,
    removed=re.compile(r"\[\d+m|[\x01-\x1f]"),
    strips=False,
    joins_spaces=True,
)
_MATPLOTLIB = LogFormat(
    rules=(_FIRST_WORD,),
    words=_PYTEST_WORDS,
    strips=False,
    line_rewrites=((re.compile(r"MouseButton\.LEFT"), "1"), (re.compile(r"MouseButton\.RIGHT"), "3")),
)
_SEABORN = LogFormat(
    rules=(
        _rule(r"^FAILED\S*\s+(?P<test>\S+)", Status.FAILED),
        _rule(r"^(?P<test>\S+)\s+PASSED ", Status.PASSED),
        _rule(r"^PASSED\S*\s+(?P<test>\S+)", Status.PASSED),
    ),
    words={},
    strips=False,
)
_UNITTEST = LogFormat(
    rules=(
        _rule(r"^(?P<test>.*?) \.\.\. {1,2}(?P<word>ok|OK|FAIL|ERROR)$"),
        _rule(r"^(?P<test>.*?) \.\.\. (?P<word>skipped)"),
        _rule(r"^(?P<word>FAIL|ERROR):\s*(?P<test>\S+)"),
    ),
    words={
        "ok": Status.PASSED,
        "OK": Status.PASSED,
        "FAIL": Status.FAILED,
        "ERROR": Status.ERROR,
        "skipped": Status.SKIPPED,
    },
    begun=re.compile(r"^(?P<test>.*?) \.\.\. "),
    ended=re.compile(r"^ok"),
)
_SYMPY = LogFormat(
    rules=(
        _rule(r"^_+ (?P<test>\S.*\.py:\S+) _+$", Status.FAILED),
        _rule(r"^(?P<test>test_\S*)(?: .*)? (?P<word>ok|F|E)$"),
    ),
    words={"ok": Status.PASSED, "F": Status.FAILED, "E": Status.ERROR},
)
_GO = LogFormat(
    rules=(_rule(r"^--- (?P<word>PASS|FAIL|SKIP): (?P<test>.+) \(.+\)$"),),
    words={"PASS": Status.PASSED, "FAIL": Status.FAILED, "SKIP": Status.SKIPPED},
)
_CARGO = LogFormat(
    rules=(_rule(r"^test\s+(?P<test>\S+)\s+\.\.\.\s+(?P<word>ok|FAILED)$"),),
    words={"ok": Status.PASSED, "FAILED": Status.FAILED},
)
_GOOGLETEST = LogFormat(
    rules=(_rule(r"\[\s*(?P<word>OK|FAILED)\s*\]\s(?P<test>.*)\s\(.*\)$"),),
    words={"OK": Status.PASSED, "FAILED": Status.FAILED},
)
_TAP = LogFormat(
    rules=(_rule(r"^(?P<word>ok|not ok) \d+ (?P<test>.+)$"),),
    words={"ok": Status.PASSED, "not ok": Status.FAILED},
)
_VITEST = LogFormat(
    rules=(_rule(r"^(?P<word>✓|×|↓)\s(?P<test>.+?)(?:\s(?:\d+\s*m?s?|\[skipped\]))?$"),),  # noqa: RUF001 -- its word
    words={"✓": Status.PASSED, "×": Status.FAILED, "↓": Status.SKIPPED},  # noqa: RUF001 -- its word
)
FORMATS: Mapping[str, LogFormat] = {
    "parse_log_pytest": _PYTEST,
    "parse_log_pytest_options": _PYTEST_OPTIONS,
    "parse_log_pytest_v2": _PYTEST_WHOLE_IDS,
    "parse_log_django": _UNITTEST,
    "parse_log_sympy": _SYMPY,
    "parse_log_seaborn": _SEABORN,
    "parse_log_matplotlib": _MATPLOTLIB,
    **{f"parse_log_{name}": _PYTEST for name in ("astroid", "flask", "marshmallow", "pvlib", "pyvista", "sqlfluff")},
    "parse_log_xarray": _PYTEST,
    **{f"parse_log_{name}": _PYTEST_OPTIONS for name in ("pydicom", "requests", "pylint")},
    **{f"parse_log_{name}": _PYTEST_WHOLE_IDS for name in ("astropy", "scikit", "sphinx")},
    "parse_log_gotest": _GO,
    "parse_log_cargo": _CARGO,
    "parse_log_googletest": _GOOGLETEST,
    "parse_log_tap": _TAP,
    "parse_log_vitest": _VITEST,
}
"""By the name that a task gives."""


def format_named(name: str) -> LogFormat:
    """Return a format by the name of the parser that a task wants.

    Raises:
        TaskError: It is none of those that are known here.
    """
    if name not in FORMATS:
        message = f"task.yaml: its log_parser {name[:80]!r} is none of those known here: {', '.join(sorted(FORMATS))}"
        raise TaskError(message)
    return FORMATS[name]
