"""The weak alterations of a Python test: a check turned round, and a failing one at the end. PURE.

A reader of the altered test can see them, so they are the fallback where no strong one holds.
"""

import ast
import re
from collections.abc import Iterator

from envfarm.records.trust import Edit, TwinKind
from task_miner.languages.guards import ProposedTwin
from task_miner.languages.python_checks import RAISING, WARNING, Check, Function, called_name
from task_miner.languages.python_lines import Source
from task_miner.languages.python_syntax import is_docstring

_OPERATORS = {
    ast.Eq: (r"==", "!="),
    ast.NotEq: (r"!=", "=="),
    ast.In: (r"\bin\b", "not in"),
    ast.NotIn: (r"\bnot\s+in\b", "in"),
    ast.Is: (r"\bis\b", "is not"),
    ast.IsNot: (r"\bis\s+not\b", "is"),
}
_METHODS = {
    "assertEqual": "assertNotEqual",
    "assertEquals": "assertNotEqual",
    "assertFalse": "assertTrue",
    "assertIn": "assertNotIn",
    "assertIs": "assertIsNot",
    "assertIsInstance": "assertNotIsInstance",
    "assertIsNone": "assertIsNotNone",
    "assertIsNot": "assertIs",
    "assertIsNotNone": "assertIsNone",
    "assertNotEqual": "assertEqual",
    "assertNotIn": "assertIn",
    "assertNotIsInstance": "assertIsInstance",
    "assertTrue": "assertFalse",
}
_COMPOUND = (
    ast.If | ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith | ast.Try | ast.FunctionDef | ast.ClassDef
) | (ast.AsyncFunctionDef | ast.Match)
_LEAVING = ast.Return | ast.Raise | ast.Break | ast.Continue
_FAILING = "; assert False"


def invert_checks(source: Source, checks: tuple[Check, ...]) -> Iterator[ProposedTwin]:
    """Yield twins that each have one check turned round: those of lines that the base knows last, else last first."""
    for check in sorted(checks, key=lambda found: (not source.is_new(_statement(found)), -found.node.lineno)):
        node = check.node
        edits = _negated(source, node.test) if isinstance(node, ast.Assert) else _renamed(source, node)
        if edits:
            yield ProposedTwin(kind=TwinKind.INVERTED, line=node.lineno, edits=edits)


def _statement(check: Check) -> ast.expr | ast.stmt:
    return check.node


def _renamed(source: Source, call: ast.Call) -> tuple[Edit, ...]:
    name = called_name(call)
    other = _METHODS.get(name)
    if other is None:
        return ()
    _, end = source.span(call.func)
    return (Edit(path=source.path, start=end - len(name), end=end, text=other),)


def _negated(source: Source, test: ast.expr) -> tuple[Edit, ...]:
    start, end = source.span(test)
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]) in _OPERATORS:
        pattern, other = _OPERATORS[type(test.ops[0])]
        first = source.span(test.left)[1]
        between = source.text(first, source.span(test.comparators[0])[0])
        found = re.search(pattern, between)
        if found and "#" not in between and not source.breaks(first + found.start(), first + found.end()):
            return (Edit(path=source.path, start=first + found.start(), end=first + found.end(), text=other),)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = source.span(test.operand)[0]
        if re.fullmatch(r"not +", source.text(start, inner)):
            return (Edit(path=source.path, start=start, end=inner, text=""),)
    if isinstance(test, ast.Call | ast.Name | ast.Attribute | ast.Subscript):
        return (Edit(path=source.path, start=start, end=start, text="not "),)
    return (
        Edit(path=source.path, start=start, end=start, text="not ("),
        Edit(path=source.path, start=end, end=end, text=")"),
    )


def fail_at_the_end(source: Source, function: Function) -> Iterator[ProposedTwin]:
    """Yield twins that fail after a statement that is simple, the last one first; those in loops come last."""
    loops = [node for node in function.body if isinstance(node, ast.For | ast.AsyncFor)]
    looped = [statement for loop in loops for statement in _simple(loop.body)]
    for statement in reversed([*looped, *_simple(function.body)]):
        _, end = source.span(statement)
        edit = Edit(path=source.path, start=end, end=end, text=_FAILING)
        yield ProposedTwin(kind=TwinKind.TAIL, line=source.line_of(end), edits=(edit,))


def _simple(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.With | ast.AsyncWith):
            if not any(called_name(item.context_expr) in RAISING | WARNING for item in statement.items):
                yield from _simple(statement.body)
        elif not isinstance(statement, _COMPOUND | _LEAVING) and not is_docstring(statement):
            yield statement
