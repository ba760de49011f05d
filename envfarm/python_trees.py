"""Python source as trees, from any thread. PURE.

CPython 3.11 and 3.12 keep the depth of the tree that they are building in one place for all threads (gh-106905): two
that parse at the same time now and then raise SystemError. So one of ours parses at a time.
"""

import ast
import threading

_TURN = threading.Lock()


def parse_tree(
    source: str | bytes, *, filename: str = "<unknown>", feature_version: tuple[int, int] | None = None
) -> ast.Module:
    """Return the tree of a module.

    Args:
        source: Its text.
        filename: By which warnings name it.
        feature_version: The version of Python whose syntax it has; this interpreter's by default.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: It does not parse.
    """
    with _TURN:
        return ast.parse(source, filename=filename, feature_version=feature_version)
