"""Writes changed statements of a function as text again, fit for every interpreter since 3.8. PURE."""

import ast
import copy
import io
import tokenize
from collections.abc import Callable, Sequence

from envfarm.audit.variants.functions import code_of
from envfarm.audit.variants.maker import Rewrite
from envfarm.audit.variants.source import Edit, Function, Place, SourceFile, parse

Change = Callable[[SourceFile, Function], Sequence[ast.stmt] | None]
"""Is given a function that it may change, and returns the new statements after its docstring; None for no change."""


def by_bodies(change: Change) -> Rewrite:
    """Return the rewriting that gives each function the statements that a change makes of it."""

    def rewrite(source: SourceFile, places: Sequence[Place]) -> str | None:
        edits = []
        for place in places:
            old = [ast.dump(statement) for statement in code_of(place.node)]
            new = change(source, copy.deepcopy(place.node))
            if new and [ast.dump(statement) for statement in new] != old:
                edits.append(body_edit(source, place.node, new))
        made = [edit for edit in edits if edit is not None]
        return source.splice(made) if made else None

    return rewrite


def body_edit(source: SourceFile, node: Function, statements: Sequence[ast.stmt]) -> Edit | None:
    """Return the edit that puts statements in place of a function's own, after its docstring; None if it cannot be."""
    old = code_of(node)
    if not old:
        return None
    start = source.start(old[0])
    before = source.before(start)
    indent = before if not before.strip() else source.before(source.header(node)) + "    "
    text = emit(statements, indent)
    if text is None:
        return None
    return Edit(start, source.end(old[-1]), text[len(indent) :] if indent == before else "\n" + text)


def emit(statements: Sequence[ast.stmt], indent: str) -> str | None:
    """Return statements as text at an indentation that is not empty; None where it would not mean the same."""
    module = ast.Module(body=[copy.deepcopy(statement) for statement in statements], type_ignores=[])
    plain = unparse(module)
    if plain is None:
        return None
    text = _indent(plain, indent)
    tree = parse(f"if True:\n{text}")
    block = tree.body[0] if tree is not None else None
    if not isinstance(block, ast.If):
        return None
    same = [ast.dump(statement) for statement in block.body] == [ast.dump(statement) for statement in statements]
    return text if same else None


def unparse(module: ast.Module) -> str | None:
    """Return a tree as text; None where interpreters of 3.8 could not read it."""
    if any(_is_starred_subscript(node) for node in ast.walk(module)):
        return None
    try:
        text = ast.unparse(ast.fix_missing_locations(module))
    except (ValueError, RecursionError):
        return None
    return None if _has_nested_quotes(text) else text


def _is_starred_subscript(node: ast.AST) -> bool:
    """Return whether a subscript unpacks: `ast.unparse` drops the parentheses that it needs before 3.11."""
    is_tuple = isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple)
    return is_tuple and any(isinstance(inner, ast.Starred) for inner in ast.walk(node))


def _has_nested_quotes(text: str) -> bool:
    """Return whether an f-string holds its own quote or a backslash in braces, as interpreters since 3.12 allow."""
    starts, ends = (getattr(tokenize, name, -1) for name in ("FSTRING_START", "FSTRING_END"))
    open_quotes: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_string = token.type in {starts, tokenize.STRING}
        if open_quotes and is_string and ("\\" in token.string or open_quotes[-1][0] in token.string):
            return True
        if token.type == starts:
            open_quotes.append(token.string.lstrip("fFrR"))
        elif token.type == ends:
            open_quotes.pop()
    return False


def _indent(text: str, indent: str) -> str:
    """Return a text with every line indented but those that start within a string."""
    inner: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        inner.update(range(token.start[0] + 1, token.end[0] + 1))
    lines = enumerate(text.split("\n"), 1)
    return "\n".join(line if number in inner or not line else indent + line for number, line in lines)
