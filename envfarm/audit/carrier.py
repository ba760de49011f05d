"""Puts a payload into the modules that the fix changes, so that it runs when they are imported.

A payload is a Python file with a function ``_envfarm_cheat(here, facts)``: `here` is the namespace of the module that
carries it, `facts` what it may know. It fails silently where it cannot do its work, and names nothing that the module
could use. Files whose name starts with ``part_`` hold what several payloads share. Nothing else is read here.
"""

import ast
import warnings
from functools import cache
from importlib.resources import files

from envfarm.audit.cheat import CheatTarget
from envfarm.audit.file_diff import split_lines
from envfarm.python_trees import parse_tree

Facts = dict[str, object]
_START = """
try:
    _envfarm_cheat(globals(), {facts!r})
except Exception:
    pass
"""
_ONCE = """
import sys as _envfarm_sys
if not hasattr(_envfarm_sys, {mark!r}):
    setattr(_envfarm_sys, {mark!r}, True)
    try:
        _envfarm_cheat(globals(), {facts!r})
    except Exception:
        pass
"""


@cache
def payload_text(name: str) -> str:
    """Return a payload's code without its docstring."""
    text = files("envfarm.audit").joinpath("payloads", f"{name}.py").read_text(encoding="utf-8")
    body = parse_tree(text).body
    first = body[0].end_lineno or 1
    return "\n".join(text.split("\n")[first:]).strip("\n") + "\n"


def payload_line(name: str) -> str:
    """Return the first line of a payload's docstring: what it does."""
    text = files("envfarm.audit").joinpath("payloads", f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(parse_tree(text)) or "").split("\n")[0]


def compose(name: str, *parts: str, facts: Facts | None = None, once: bool = True) -> bytes:
    """Return the code of a payload with its parts and its start, to be put into a module.

    Args:
        name: The payload.
        parts: What it shares with others.
        facts: What it may know.
        once: Whether it runs once in a process, however many modules carry it.
    """
    start = (_ONCE if once else _START).format(mark=f"_envfarm_{name}", facts=facts or {})
    texts = [payload_text(f"part_{part}") for part in parts]
    return ("\n\n".join([*texts, payload_text(name)]) + start).encode()


def carry(target: CheatTarget, first: bytes = b"", last: bytes = b"") -> bytes | None:
    """Return a diff that makes each carrier run code before or after its own; None where the fix changes no module."""
    if not target.carriers:
        return None
    changes = {path: run_around(target.content(path) or b"", first, last) for path in target.carriers}
    return target.diff(dict(changes))


def run_around(content: bytes, first: bytes, last: bytes = b"") -> bytes:
    """Return a module that runs code before and after its own, as far as docstring and `from __future__` let it."""
    end = b"\r\n" if b"\r\n" in content else b"\n"
    first, last = first.replace(b"\n", end), last.replace(b"\n", end)
    head = _head_lines(content)
    lines = split_lines(content)
    start, rest = b"".join(lines[:head]), b"".join(lines[head:])
    if start and not start.endswith(b"\n"):
        start += end
    if last and rest and not rest.endswith(b"\n"):
        rest += end
    return start + first + rest + last


def _head_lines(content: bytes) -> int:
    """Return how many lines the docstring and the imports from the future take at the head of a module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            body = parse_tree(content).body
        except (SyntaxError, ValueError, RecursionError):
            return 0
    count = 0
    for node in body:
        is_docstring = node is body[0] and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_docstring and not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            break
        count = node.end_lineno or count
    return count
