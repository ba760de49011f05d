"""Branches in another order, and early returns in place of `else`. PURE."""

import ast
from collections.abc import Sequence

from envfarm.audit.variants.functions import code_of
from envfarm.audit.variants.source import Function, SourceFile

_LEAVING = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_OPPOSITES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
"""Comparisons that are each other's `not` for every object; `==` and `!=` are two methods."""


class _Early(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> list[ast.stmt]:
        self.generic_visit(node)
        if not (node.orelse and _leaves(node.body)):
            return [node]
        rest, node.orelse = node.orelse, []
        return [node, *rest]


class _Swapped(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.If:
        self.generic_visit(node)
        if node.orelse:
            node.test, node.body, node.orelse = _negated(node.test), node.orelse, node.body
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.IfExp:
        self.generic_visit(node)
        node.test, node.body, node.orelse = _negated(node.test), node.orelse, node.body
        return node


def return_early(_source: SourceFile, node: Function) -> list[ast.stmt]:
    """Return a function's statements without `else` after a branch that leaves."""
    return _visited(_Early(), code_of(node))


def swap_branches(_source: SourceFile, node: Function) -> list[ast.stmt]:
    """Return a function's statements with the other branch first, and the condition negated."""
    return _visited(_Swapped(), code_of(node))


def _visited(transformer: ast.NodeTransformer, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    holder = ast.Module(body=list(statements), type_ignores=[])
    transformer.visit(holder)
    return holder.body


def _leaves(block: Sequence[ast.stmt]) -> bool:
    last = block[-1]
    if isinstance(last, ast.If):
        return bool(last.orelse) and _leaves(last.body) and _leaves(last.orelse)
    return isinstance(last, _LEAVING)


def _negated(test: ast.expr) -> ast.expr:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]) in _OPPOSITES:
        return ast.Compare(left=test.left, ops=[_OPPOSITES[type(test.ops[0])]()], comparators=test.comparators)
    return ast.UnaryOp(op=ast.Not(), operand=test)
