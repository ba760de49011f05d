"""The publish gate's submissions that must not pay: no change at all, and cheap cheats. PURE."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from envfarm.grading.path_quoting import quote
from envfarm.records.submission import Submission, SubmissionKind
from task_miner.languages.python_syntax import is_docstring, parse_python
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
        replace_file(path, content, run_first(content or b"", payload)) for path, content in carriers.items()
    )


def _conftest_patch(tests: Mapping[str, bytes], conftests: Mapping[str, bytes]) -> bytes:
    """Return a diff that puts the rewriting hook into a conftest at the root and beside the tests."""
    places = {PurePosixPath("conftest.py"), *(PurePosixPath(path).with_name("conftest.py") for path in tests)}
    changed = {str(place): conftests.get(str(place)) for place in sorted(places)}
    return b"".join(
        replace_file(path, content, run_first(content or b"", cheats.CONFTEST)) for path, content in changed.items()
    )


def replace_file(path: str, old: bytes | None, new: bytes | None) -> bytes:
    """Return a diff that makes a file hold `new` in place of `old`; None where it is absent."""
    before, after = _lines(old), _lines(new)
    head = [b"diff --git " + quote(f"a/{path}", always=True) + b" " + quote(f"b/{path}", always=True)]
    if old is None:
        head.append(b"new file mode 100644")
    if new is None:
        head.append(b"deleted file mode 100644")
    if not before and not after:
        return b"\n".join(head) + b"\n"
    head.append(b"--- /dev/null" if old is None else b"--- " + quote(f"a/{path}", always=True))
    head.append(b"+++ /dev/null" if new is None else b"+++ " + quote(f"b/{path}", always=True))
    head.append(b"@@ -%s +%s @@" % (_range(before), _range(after)))
    body = [_marked(b"-", line) for line in before] + [_marked(b"+", line) for line in after]
    return b"\n".join(head) + b"\n" + b"".join(body)


def _lines(content: bytes | None) -> list[bytes]:
    """Return the lines as git counts them: a carriage return or a form feed ends none."""
    if not content:
        return []
    *whole, rest = content.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])


def _range(lines: list[bytes]) -> bytes:
    return b"1,%d" % len(lines) if lines else b"0,0"


def _marked(mark: bytes, line: bytes) -> bytes:
    return mark + line if line.endswith(b"\n") else mark + line + b"\n\\ No newline at end of file\n"


def run_first(content: bytes, payload: bytes) -> bytes:
    """Return the module with the payload run first, as far as a docstring and `from __future__` let it."""
    tree = parse_python(content)
    if tree is None:
        return payload + content
    body = tree.body
    first = 0
    for node in body:
        if not (_is_future(node) or (node is body[0] and is_docstring(node))):
            break
        first = node.end_lineno or first
    lines = _lines(content)
    start = b"".join(lines[:first])
    if start and not start.endswith(b"\n"):
        start += b"\n"
    end = b"\r\n" if b"\r\n" in content else b"\n"
    return start + payload.replace(b"\n", end) + b"".join(lines[first:])


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"
