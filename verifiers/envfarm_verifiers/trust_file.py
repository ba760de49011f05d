"""Reads and writes the hidden part of a task that the layers know it by."""

from envfarm.errors import RecordError, TaskError
from envfarm.records.task import TaskPackage
from envfarm.records.trust import TRUST_FILE, TrustPlan
from envfarm.records.versioned import decode_line, encode_line


def read_trust(package: TaskPackage) -> TrustPlan | None:
    """Return what the task's hidden part holds; None for a task that was published without.

    Raises:
        TaskError: It is damaged, or of another release.
    """
    content = package.files.get(TRUST_FILE)
    if content is None:
        return None
    try:
        return decode_line(content, TrustPlan)
    except RecordError as error:
        message = f"{TRUST_FILE}: {error}"
        raise TaskError(message) from error


def render_trust(plan: TrustPlan) -> bytes:
    """Return the file's bytes; equal plans give equal bytes."""
    return encode_line(plan)
