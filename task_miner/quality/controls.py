"""The publish gate's submissions: the true fix, and cheap cheats that must not pay. PURE."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

from envfarm.records.submission import Submission, SubmissionKind

_CONFTEST = b"""\
import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    report.outcome = "passed"
    report.longrepr = None
"""
_EXIT = b"import os\nos._exit(0)\n"
_FORGED = b"""\
import os
for _stream in (1, 2):
    os.write(_stream, b"\\n============ 999 passed in 0.01s ============\\n")
"""
_PLANTED = b"""\
import os
for _folder in ("/logs/verifier", "/workspace/logs/verifier", "/workspace"):
    try:
        os.makedirs(_folder, exist_ok=True)
        with open(os.path.join(_folder, "reward.json"), "w") as _file:
            _file.write('{"reward": 1.0}')
        with open(os.path.join(_folder, "report.json"), "w") as _file:
            _file.write('{"exitcode": 0, "summary": {"passed": 999}}')
    except OSError:
        pass
"""


@dataclass(frozen=True)
class ControlSubmission:
    """One submission of the gate, and the reward that it has to get."""

    name: str
    expected_reward: float
    submission: Submission = field(repr=False)


def make_controls(
    task_id: str, *, sources: Mapping[str, bytes], tests: Mapping[str, bytes]
) -> tuple[ControlSubmission, ...]:
    """Return the submissions that have to score 0.

    Args:
        task_id: The task.
        sources: Base content of the modules that the fix changes, by path; the first one carries the cheats.
        tests: Base content of the test files that decide, by path.
    """
    found = [ControlSubmission("no_op", 0.0, Submission(task_id=task_id, kind=SubmissionKind.NO_OP))]
    patches = {"conftest_rewrites_outcomes": replace_file("conftest.py", None, _CONFTEST)}
    if tests:
        deleted = [replace_file(path, content, None) for path, content in sorted(tests.items())]
        patches["failing_tests_deleted"] = b"".join(deleted)
    for path, content in sorted(sources.items())[:1]:
        cheats = {
            "module_exits_process": _EXIT,
            "forged_summary_text": _FORGED + _EXIT,
            "planted_reward_file": _PLANTED + _EXIT,
        }
        patches |= {name: replace_file(path, content, _after_future(content, cheat)) for name, cheat in cheats.items()}
    for name, patch in patches.items():
        found.append(ControlSubmission(name, 0.0, Submission(task_id=task_id, kind=SubmissionKind.PATCH, patch=patch)))
    return tuple(found)


def replace_file(path: str, old: bytes | None, new: bytes | None) -> bytes:
    """Return a diff that makes a file hold `new` in place of `old`; None where it is absent."""
    name = path.encode("utf-8", "surrogateescape")
    head = [b"diff --git a/" + name + b" b/" + name]
    if old is None:
        head.append(b"new file mode 100644")
    if new is None:
        head.append(b"deleted file mode 100644")
    before, after = _lines(old), _lines(new)
    if not before and not after:
        return b"\n".join(head) + b"\n"
    head.append(b"--- /dev/null" if old is None else b"--- a/" + name)
    head.append(b"+++ /dev/null" if new is None else b"+++ b/" + name)
    head.append(b"@@ -%s +%s @@" % (_range(before), _range(after)))
    body = [_marked(b"-", line) for line in before] + [_marked(b"+", line) for line in after]
    return b"\n".join(head) + b"\n" + b"".join(body)


def _lines(content: bytes | None) -> list[bytes]:
    return [] if not content else [line + b"\n" for line in content.split(b"\n")[:-1]] + _rest(content)


def _rest(content: bytes) -> list[bytes]:
    last = content.rsplit(b"\n", 1)[-1]
    return [last] if last else []


def _range(lines: list[bytes]) -> bytes:
    return b"1,%d" % len(lines) if lines else b"0,0"


def _marked(mark: bytes, line: bytes) -> bytes:
    return mark + line if line.endswith(b"\n") else mark + line + b"\n\\ No newline at end of file\n"


def _after_future(content: bytes, cheat: bytes) -> bytes:
    """Return the module with the cheat run first, as far as `from __future__` and a docstring let it."""
    try:
        body = ast.parse(content).body
    except (SyntaxError, ValueError):
        return cheat + content
    first = 0
    for node in body:
        future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        docstring = node is body[0] and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not future and not docstring:
            break
        first = node.end_lineno or first
    lines = content.splitlines(keepends=True)
    start = b"".join(lines[:first])
    return start + (b"" if start.endswith(b"\n") or not start else b"\n") + cheat + b"".join(lines[first:])
