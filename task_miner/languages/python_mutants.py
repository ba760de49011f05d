"""Small wrong changes of a fix's own lines, to see whether the tests notice. PURE, and always the same for one input.

Only code that runs is changed: annotations, docstrings, imports and the insides of f-strings are left alone, since a
mutant that nobody can notice says nothing of the tests.
"""

import ast
import copy
import difflib
from collections.abc import Iterator

from task_miner.languages.contract import Mutant
from task_miner.languages.python_syntax import is_docstring, parse_python

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_BOUNDARIES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
}
_UNSEEN = ("annotation", "returns", "type_params")
"""Fields of nodes that no test can notice."""

Site = tuple[int, str, ast.expr | ast.stmt, ast.AST]
"""Line, operator, the node that is changed, and what takes its place."""


def make_mutants(path: str, old: bytes, new: bytes, *, limit: int) -> tuple[Mutant, ...]:
    """Return at most `limit` mutants of the lines that `new` adds to `old`, spread over them.

    Each parses and runs otherwise than `new`; what is not mutated keeps its bytes.
    """
    tree = parse_python(new)
    if tree is None or limit < 1:
        return ()
    lines = _added_lines(old, new)
    mutants: list[Mutant] = []
    seen = {new}
    for line, operator, node, replacement in _spread([site for site in _sites(tree) if site[0] in lines], limit):
        content = _spliced(new, node, replacement)
        if content is None or content in seen:
            continue
        seen.add(content)
        mutants.append(Mutant(path=path, line=line, operator=operator, content=content))
        if len(mutants) == limit:
            break
    return tuple(sorted(mutants, key=lambda mutant: (mutant.line, mutant.operator, mutant.content)))


def _added_lines(old: bytes, new: bytes) -> frozenset[int]:
    matcher = difflib.SequenceMatcher(a=old.splitlines(), b=new.splitlines(), autojunk=False)
    added: set[int] = set()
    for tag, _, _, start, end in matcher.get_opcodes():
        if tag in {"replace", "insert"}:
            added |= set(range(start + 1, end + 1))
    return frozenset(added)


def _spread(sites: list[Site], limit: int) -> list[Site]:
    """Return all sites in the order to try them: lines far apart first, and another operator each time a line comes."""
    by_line: dict[int, list[Site]] = {}
    for site in sorted(sites, key=lambda found: (found[0], found[2].col_offset, found[1])):
        by_line.setdefault(site[0], []).append(site)
    lines = sorted(by_line)
    first = [lines[number * len(lines) // limit] for number in range(limit)] if len(lines) > limit else lines
    order = [*first, *(line for line in lines if line not in first)]
    for number, line in enumerate(order):
        found = by_line[line]
        turn = number % len(found)
        by_line[line] = found[turn:] + found[:turn]
    rounds = max((len(found) for found in by_line.values()), default=0)
    return [by_line[line][turn] for turn in range(rounds) for line in order if turn < len(by_line[line])]


def _sites(tree: ast.Module) -> Iterator[Site]:
    for node in _running(tree):
        if isinstance(node, ast.expr):
            yield from _expression_sites(node)
        elif isinstance(node, ast.stmt):
            yield from _statement_sites(node)


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes whose code runs."""
    if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.stmt) and (is_docstring(node) or _is_for_checkers(node)):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in _UNSEEN:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _running(child)


def _is_for_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def _expression_sites(node: ast.expr) -> Iterator[Site]:
    if isinstance(node, ast.IfExp):
        yield node.test.lineno, "negate_condition", node.test, ast.UnaryOp(op=ast.Not(), operand=node.test)
    elif isinstance(node, ast.Compare):
        for table, operator in ((_COMPARISONS, "swap_comparison"), (_BOUNDARIES, "move_boundary")):
            other = table.get(type(node.ops[0]))
            if other is not None:
                swapped = copy.copy(node)
                swapped.ops = [other(), *node.ops[1:]]
                yield node.lineno, operator, node, swapped
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        if not _is_text(node.left) and not _is_text(node.right):
            changed = ast.BinOp(left=node.left, op=_ARITHMETIC[type(node.op)](), right=node.right)
            yield node.lineno, "swap_arithmetic", node, changed
    elif isinstance(node, ast.BoolOp):
        operator_node = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield node.lineno, "swap_boolean", node, ast.BoolOp(op=operator_node, values=node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str | bytes):
        yield node.lineno, "change_constant", node, ast.Constant(value=_other(node.value))


def _statement_sites(node: ast.stmt) -> Iterator[Site]:
    if isinstance(node, ast.If | ast.While):
        yield node.test.lineno, "negate_condition", node.test, ast.UnaryOp(op=ast.Not(), operand=node.test)
    elif isinstance(node, ast.Return) and node.value is not None:
        yield node.lineno, "return_none", node, ast.Return(value=ast.Constant(value=None))
    elif isinstance(node, ast.Assign | ast.AugAssign | ast.Raise | ast.Delete) or _is_call(node):
        yield node.lineno, "drop_statement", node, ast.Pass()


def _is_call(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await | ast.Yield | ast.YieldFrom)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _other(value: bool | float | str | bytes) -> bool | float | str | bytes:  # noqa: FBT001 -- any constant
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, bytes):
        return value + b"x"
    return value + 1


def _spliced(content: bytes, node: ast.expr | ast.stmt, replacement: ast.AST) -> bytes | None:
    """Return the content with one node's own bytes replaced; None where that does not parse."""
    lines = content.splitlines(keepends=True)
    if node.end_lineno is None or node.end_col_offset is None:
        return None
    try:
        text = ast.unparse(ast.fix_missing_locations(replacement))
    except (ValueError, RecursionError):
        return None
    if isinstance(node, ast.expr):
        text = f"({text})"
    mark = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    start = sum(len(line) for line in lines[: node.lineno - 1]) + node.col_offset + (mark if node.lineno == 1 else 0)
    end = sum(len(line) for line in lines[: node.end_lineno - 1]) + node.end_col_offset
    end += mark if node.end_lineno == 1 else 0
    changed = content[:start] + text.encode() + content[end:]
    return changed if parse_python(changed) is not None else None
