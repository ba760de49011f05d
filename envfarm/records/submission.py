"""A submission: what a policy leaves behind when it has worked on a task."""

from enum import StrEnum

from envfarm.records.versioned import Record


class SubmissionKind(StrEnum):
    """How the submission was handed in."""

    PATCH = "patch"
    """A unified diff against the task's base, in `patch`."""
    NO_OP = "no_op"
    """Nothing was changed."""
    ORACLE = "oracle"
    """The task's own true fix, in `patch`."""


class Submission(Record, frozen=True, kw_only=True, tag="envfarm.submission/1"):
    """What a policy leaves behind. A changed workspace is handed in as its diff against the base."""

    task_id: str
    kind: SubmissionKind
    patch: bytes = b""
    """Unified diff in git's form, as bytes: patches are not always UTF-8."""
