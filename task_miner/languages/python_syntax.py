"""Reads Python source into trees, and takes out of a tree what does not run. PURE.

Source is a stranger's and of any age: what does not parse is None, and what the parser would warn of stays unsaid.
"""

import ast
import warnings

from envfarm.python_trees import parse_tree

_FILE_NAME = "<mined source>"
_PLAIN_DECORATORS = frozenset(
    {
        "abstractmethod",
        "cache",
        "cached_property",
        "classmethod",
        "contextmanager",
        "deleter",
        "final",
        "fixture",
        "getter",
        "lru_cache",
        "overload",
        "override",
        "property",
        "setter",
        "staticmethod",
        "wraps",
    }
)
"""Decorators that look at neither the annotations nor the docstring of what they decorate."""


def parse_python(content: bytes) -> ast.Module | None:
    """Return the tree of a module; None where it does not parse."""
    warnings.filterwarnings("ignore", module=_FILE_NAME)
    try:
        return parse_tree(content, filename=_FILE_NAME)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def parse_bare(content: bytes) -> ast.Module | None:
    """Return the tree of a module without docstrings and annotations that nothing reads; None where it does not parse.

    Annotations of classes and modules stay, because dataclasses and their like run them. So do annotations and the
    docstring of a function with a decorator that could read them, and all docstrings where the module asks for
    ``__doc__``.
    """
    tree = parse_python(content)
    if tree is None:
        return None
    try:
        bare: ast.Module = _Bare(docstrings_read=b"__doc__" in content).visit(tree)
    except RecursionError:
        return None
    return bare


def dump(node: ast.AST) -> str:
    """Return a tree as text: equal texts run alike. Positions are not in it."""
    return ast.dump(node)


class _Bare(ast.NodeTransformer):
    """Takes out docstrings, and annotations that Python does not run."""

    def __init__(self, *, docstrings_read: bool) -> None:
        self._docstrings_read = docstrings_read
        self._in_function = False

    def visit_Module(self, node: ast.Module) -> ast.AST:
        self._drop_docstring(node)
        self.generic_visit(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        if not node.decorator_list:
            self._drop_docstring(node)
        outside, self._in_function = self._in_function, False
        self.generic_visit(node)
        self._in_function = outside
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._visit_function(node)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if all(_is_plain(decorator) for decorator in node.decorator_list):
            self._drop_docstring(node)
            node.returns = None
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            for argument in every:
                if argument is not None:
                    argument.annotation = None
        outside, self._in_function = self._in_function, True
        self.generic_visit(node)
        self._in_function = outside
        node.body = node.body or [ast.Pass()]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        if not self._in_function:
            return node
        return None if node.value is None else ast.Assign(targets=[node.target], value=node.value, type_comment=None)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        node.kind = None
        return node

    def _drop_docstring(self, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if self._docstrings_read or not node.body:
            return
        if is_docstring(node.body[0]):
            del node.body[0]
        if not node.body and not isinstance(node, ast.Module):
            node.body.append(ast.Pass())


def is_docstring(node: ast.stmt) -> bool:
    """Say whether a statement is nothing but a text, as a docstring is."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_plain(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in _PLAIN_DECORATORS
