"""Small wrong changes of a fix's own lines, to see whether the tests notice. PURE: one input, the same mutants."""

import ast
import copy
import difflib
from collections.abc import Iterator

from task_miner.languages.contract import Mutant

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
}
_CONSTANT_TYPES = (bool, int, float, str)


def make_mutants(path: str, old: bytes, new: bytes, *, limit: int) -> tuple[Mutant, ...]:
    """Return at most `limit` mutants of the lines that `new` adds to `old`, spread over them.

    Each parses and differs from `new`; a line of the file that is not mutated stays as it is.
    """
    lines = _added_lines(old, new)
    try:
        tree = ast.parse(new)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    found = [site for site in _sites(tree) if site[0] in lines]
    chosen = found if len(found) <= limit else [found[i * len(found) // limit] for i in range(limit)]
    mutants = []
    for line, operator, node, replacement in chosen:
        content = _spliced(new, node, replacement)
        if content is not None and content != new:
            mutants.append(Mutant(path=path, line=line, operator=operator, content=content))
    return tuple(mutants)


def _added_lines(old: bytes, new: bytes) -> frozenset[int]:
    matcher = difflib.SequenceMatcher(a=old.splitlines(), b=new.splitlines(), autojunk=False)
    added: set[int] = set()
    for tag, _, _, start, end in matcher.get_opcodes():
        if tag in {"replace", "insert"}:
            added |= set(range(start + 1, end + 1))
    return frozenset(added)


Site = tuple[int, str, ast.expr | ast.stmt, ast.AST]


def _sites(tree: ast.Module) -> Iterator[Site]:
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    joined = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in joined:  # before Python 3.12 the places of parts of an f-string are wrong
            continue
        if isinstance(node, ast.If | ast.While | ast.IfExp) and hasattr(node, "test"):
            negated = ast.UnaryOp(op=ast.Not(), operand=node.test)
            yield node.test.lineno, "negate_condition", node.test, negated
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
            swapped = copy.copy(node)
            swapped.ops = [_COMPARISONS[type(node.ops[0])](), *node.ops[1:]]
            yield node.lineno, "swap_comparison", node, swapped
        elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            other = ast.BinOp(left=node.left, op=_ARITHMETIC[type(node.op)](), right=node.right)
            yield node.lineno, "swap_arithmetic", node, other
        elif isinstance(node, ast.BoolOp):
            operator = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield node.lineno, "swap_boolean", node, ast.BoolOp(op=operator, values=node.values)
        elif isinstance(node, ast.Return) and node.value is not None:
            yield node.lineno, "return_none", node, ast.Return(value=ast.Constant(value=None))
        elif isinstance(node, ast.Constant) and isinstance(node.value, _CONSTANT_TYPES) and id(node) not in docstrings:
            yield node.lineno, "change_constant", node, ast.Constant(value=_other(node.value))
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.Raise) or _is_call(node):
            yield node.lineno, "drop_statement", node, ast.Pass()  # type: ignore[attr-defined,misc] # statements have lines


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def _other(value: bool | float | str) -> bool | float | str:  # noqa: FBT001 -- any constant
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x" if value else "x"
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
    start = sum(len(line) for line in lines[: node.lineno - 1]) + node.col_offset
    end = sum(len(line) for line in lines[: node.end_lineno - 1]) + node.end_col_offset
    changed = content[:start] + text.encode() + content[end:]
    try:
        ast.parse(changed)
    except (SyntaxError, ValueError, RecursionError):
        return None
    return changed
