"""What a statement must not say: the fix's commit or a link to it, hidden tests by name, the fix's code. PURE."""

import re

from envfarm.records.task import LinkKind, Task
from task_miner.quality.fix_traces import CLEAN, SHORT_HASH, FixTraces


def find_in_statement(task: Task, traces: FixTraces, test_names: frozenset[str]) -> str:
    """Return what the statement gives away, or ``clean``."""
    text = task.statement.text
    for commit in traces.commits:
        if re.search(rf"(?<![0-9a-f]){commit.decode()}", text):
            return f"the commit {commit.decode()[:SHORT_HASH]}"
    for link in task.source.links:
        if link.kind is LinkKind.PULL_REQUEST and re.search(rf"/(pull|pulls|merge_requests)/{link.number}\b", text):
            return f"a link to the pull request {link.number}"
    for name in sorted(test_names):
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text):
            return f"the hidden test {name}"
    flat = " ".join(text.split())
    for line in traces.source_lines:
        told = " ".join(line.decode("utf-8", "replace").split())
        if told in flat:
            return f"a line of the fix: {told[:60]}"
    return CLEAN
