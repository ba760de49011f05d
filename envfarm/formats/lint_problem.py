"""What a linter says about a task folder. PURE."""

from dataclasses import dataclass

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = {"shared-verifier": WARNING, "root-agent": NOTE, "unpinned-image": NOTE}
"""A task that breaks these can be judged rightly all the same; the notes are rules that Harbor leaves out by itself."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem of a task folder.

    Attributes:
        rule: The lint id: one of Harbor's, or one of ours, which start with ``envfarm-``.
        file: The file at fault, relative to the folder.
        message: What is wrong, in words.
        line: Its line, where there is one.
        severity: error, warning, or note.
    """

    rule: str
    file: str
    message: str
    line: int | None = None
    severity: str = ERROR


def problem(rule: str, file: str, message: str, line: int | None = None) -> Problem:
    """Return a problem with the severity that its rule has."""
    return Problem(rule=rule, file=file, message=message, line=line, severity=SEVERITIES.get(rule, ERROR))
