"""What a leaked fix would look like in a text: ids of its commits, whole contents, and its own long lines. PURE."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from envfarm.records.task import FIX_PATCH, TEST_PATCH, TaskPackage

CLEAN = "clean"
"""What a check says that found nothing."""
LONG_LINE = 40
"""Characters from which on a line is taken for the fix's own: shorter ones are written twice by chance."""
SHORT_HASH = 7
"""Digits of a commit's id that people write."""
_CODE = re.compile(
    rb"\w\(|\w\[| = |[=!<>]=|\+=|->|^(return|if|elif|for|while|def|class|import|from|raise|with|assert|yield)\b.*[:(.]"
)
_COMMENT = re.compile(rb'\s*(#|"""|\'\'\'|//|/\*|\*)')


@dataclass(frozen=True)
class Trace:
    """One thing of the fix that was found.

    Attributes:
        told: What it is, for people.
        line: The line, where it is one; the base may hold it elsewhere.
    """

    told: str
    line: bytes = b""


@dataclass(frozen=True, kw_only=True)
class FixTraces:
    """What to look for.

    Attributes:
        commits: Short ids of the fix's commits.
        digests: SHA-256 of contents that only the fix has.
        lines: Long lines that source and tests gain, stripped, without those that they lose.
        source_lines: Those of them that are code of the fix itself.
    """

    commits: tuple[bytes, ...]
    digests: frozenset[bytes] = field(repr=False)
    lines: frozenset[bytes] = field(repr=False)
    source_lines: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def of(cls, package: TaskPackage, commits: Iterable[str], contents: Iterable[bytes]) -> Self:
        """Return the traces of a task's own fix."""
        source = _gained(package.files.get(FIX_PATCH, b""))
        tests = _gained(package.files.get(TEST_PATCH, b""))
        return cls(
            commits=tuple(sorted({commit[:SHORT_HASH].encode() for commit in commits})),
            digests=frozenset(hashlib.sha256(content).digest() for content in contents if len(content) > LONG_LINE),
            lines=frozenset(source) | frozenset(tests),
            source_lines=tuple(sorted(line for line in source if looks_like_code(line))),
        )

    def find(self, content: bytes) -> Trace | None:
        """Return the first trace in a content; None where there is none."""
        if hashlib.sha256(content).digest() in self.digests:
            return Trace("a file as the fix has it")
        for commit in self.commits:
            if re.search(rb"(?<![0-9a-f])" + commit, content):
                return Trace(f"the commit {commit.decode()}")
        for line in content.splitlines():
            if len(line) >= LONG_LINE and line.strip() in self.lines:
                return Trace(f"a line of the fix: {_shown(line.strip())}", line.strip())
        return None


def fix_code_lines(fix_patch: bytes) -> tuple[str, ...]:
    """Return the long lines of code that a fix adds and has nowhere else, as a statement would quote them."""
    return tuple(sorted(line.decode("utf-8", "replace") for line in _gained(fix_patch) if looks_like_code(line)))


def _gained(patch: bytes) -> set[bytes]:
    """Return the long lines that a diff adds and has nowhere else."""
    by_mark: dict[bytes, set[bytes]] = {b"+": set(), b"-": set(), b" ": set()}
    for line in patch.split(b"\n"):
        text = line[1:].strip()
        if len(text) >= LONG_LINE and line[:1] in by_mark and not line.startswith((b"+++ ", b"--- ")):
            by_mark[line[:1]].add(text)
    return {text for text in by_mark[b"+"] - by_mark[b"-"] - by_mark[b" "] if not _COMMENT.match(text)}


def looks_like_code(line: bytes) -> bool:
    """Say whether a line is code and not prose, which issues and docstrings may share."""
    return _CODE.search(line) is not None and not line.startswith((b'"', b"'"))


def _shown(line: bytes) -> str:
    return line[:60].decode("utf-8", "replace")
