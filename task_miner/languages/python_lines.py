"""Where the nodes of a Python file stand in its bytes, and which of its lines a patch adds. PURE."""

import ast
import bisect
import difflib
import re
from dataclasses import dataclass
from functools import cached_property

from task_miner.languages.python_syntax import parse_python

_MARK = b"\xef\xbb\xbf"
_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_BREAK = re.compile(rb"\r\n|\n|\r")
_MANY_LINES = 3000
"""Above, lines that come often are not compared: a guess that keeps a diff below a second."""


@dataclass(frozen=True)
class Source:
    """A fixed test file whose bytes can be told by nodes.

    Attributes:
        path: Path in the workspace.
        content: The whole file.
        tree: Its tree.
        added: Lines that the patch adds.
        known: Texts of the base's lines, without the blanks around them.
    """

    path: str
    content: bytes
    tree: ast.Module
    added: frozenset[int]
    known: frozenset[bytes]

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Offsets of the lines; a byte order mark belongs to none."""
        mark = len(_MARK) if self.content.startswith(_MARK) else 0
        return (mark, *(found.end() for found in _BREAK.finditer(self.content)))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Return the offsets of a node's first byte and of the one after its last."""
        end_line = node.end_lineno or node.lineno
        end_column = node.end_col_offset or 0
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[end_line - 1] + end_column

    def text(self, start: int, end: int) -> str:
        """Return what stands between two offsets."""
        return self.content[start:end].decode()

    def breaks(self, start: int, end: int) -> str:
        """Return the line breaks between two offsets, as they are."""
        return b"".join(_BREAK.findall(self.content[start:end])).decode()

    def line_of(self, offset: int) -> int:
        """Return the line that an offset is on."""
        return bisect.bisect_right(self.starts, offset)

    def is_new(self, node: ast.expr | ast.stmt) -> bool:
        """Say whether the patch adds a line of the node."""
        return any(line in self.added for line in range(node.lineno, (node.end_lineno or node.lineno) + 1))

    def is_fresh(self, line: int) -> bool:
        """Say whether the patch adds the line and the base has none that reads the same."""
        start = self.starts[line - 1]
        end = self.starts[line] if line < len(self.starts) else len(self.content)
        return line in self.added and self.content[start:end].strip() not in self.known


def read_source(path: str, old: bytes | None, new: bytes) -> Source | None:
    """Read a fixed file and what it adds to the base's; None where it does not parse or is not UTF-8."""
    if not _is_utf8(new):
        return None
    tree = parse_python(new)
    if tree is None:
        return None
    before = (old or b"").removeprefix(_MARK).splitlines()
    return Source(
        path=path,
        content=new,
        tree=tree,
        added=added_lines(before, new.removeprefix(_MARK).splitlines()),
        known=frozenset(line.strip() for line in before),
    )


def added_lines(before: list[bytes], after: list[bytes]) -> frozenset[int]:
    """Return the numbers of the lines that `after` adds to `before`."""
    head = 0
    while head < min(len(before), len(after)) and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < min(len(before), len(after)) - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    matcher = difflib.SequenceMatcher(a=old, b=new, autojunk=len(old) + len(new) > _MANY_LINES)
    added: set[int] = set()
    for tag, _, _, start, end in matcher.get_opcodes():
        if tag in {"replace", "insert"}:
            added |= set(range(head + start + 1, head + end + 1))
    return frozenset(added)


def _is_utf8(content: bytes) -> bool:
    for line in content.splitlines()[:2]:
        cookie = _COOKIE.match(line)
        if cookie and cookie[1].lower().replace(b"_", b"-") not in {b"utf-8", b"utf8", b"utf-8-sig", b"ascii"}:
            return content.isascii()
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
