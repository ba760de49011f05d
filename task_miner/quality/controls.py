"""The publish gate's submissions that must not pay: no change at all, and cheap cheats. PURE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from envfarm.audit.carrier import run_around
from envfarm.audit.file_diff import replace_file
from envfarm.records.submission import Submission, SubmissionKind
from task_miner.quality import cheats

_MOST_CARRIERS = 3


@dataclass(frozen=True)
class ControlSubmission:
    """One submission of the gate, and the reward that it has to get."""

    name: str
    expected_reward: float
    submission: Submission = field(repr=False)


def make_controls(
    task_id: str,
    *,
    sources: Mapping[str, bytes | None],
    tests: Mapping[str, bytes],
    conftests: Mapping[str, bytes] | None = None,
    deciding: Sequence[str] = (),
) -> tuple[ControlSubmission, ...]:
    """Return the submissions that have to score 0.

    Args:
        task_id: The task.
        sources: Base content of the modules that the fix changes, by path, None for one that it adds; the first few
            carry the cheats.
        tests: Base content of the test files that decide, by path.
        conftests: Base content of conftest files, by path.
        deciding: Ids of the tests that the fix has to mend.
    """
    patches = {"conftest_rewrites_outcomes": _conftest_patch(tests, conftests or {})}
    if tests:
        deleted = [replace_file(path, content, None) for path, content in sorted(tests.items())]
        patches["failing_tests_deleted"] = b"".join(deleted)
    carriers = dict(sorted(sources.items(), key=lambda item: (item[1] is None, item[0]))[:_MOST_CARRIERS])
    if carriers:
        payloads = {
            "module_exits_process": cheats.EXIT,
            "forged_summary_text": cheats.FORGED_SUMMARY,
            "forged_summary_then_exit": cheats.FORGED_SUMMARY + cheats.EXIT,
            "forged_report_records": cheats.forged_records(deciding) + cheats.EXIT,
            "planted_reward_file": cheats.PLANTED_FILES + cheats.EXIT,
        }
        patches |= {name: _carried(carriers, payload) for name, payload in payloads.items()}
    found = [ControlSubmission("no_op", 0.0, Submission(task_id=task_id, kind=SubmissionKind.NO_OP))]
    for name, patch in patches.items():
        found.append(ControlSubmission(name, 0.0, Submission(task_id=task_id, kind=SubmissionKind.PATCH, patch=patch)))
    return tuple(found)


def _carried(carriers: Mapping[str, bytes | None], payload: bytes) -> bytes:
    """Return a diff that makes each module run the payload first."""
    return b"".join(
        replace_file(path, content, run_around(content or b"", payload)) for path, content in carriers.items()
    )


def _conftest_patch(tests: Mapping[str, bytes], conftests: Mapping[str, bytes]) -> bytes:
    """Return a diff that puts the rewriting hook into a conftest at the root and beside the tests."""
    places = {PurePosixPath("conftest.py"), *(PurePosixPath(path).with_name("conftest.py") for path in tests)}
    changed = {str(place): conftests.get(str(place)) for place in sorted(places)}
    return b"".join(
        replace_file(path, content, run_around(content or b"", cheats.CONFTEST)) for path, content in changed.items()
    )
