"""What a function's code does that a rewriting has to respect. PURE."""

import ast
from collections.abc import Iterator

from envfarm.audit.variants.source import Function, Place

FRAME_READERS = frozenset(
    {
        "_getframe",
        "_getframemodulename",
        "currentframe",
        "extract_stack",
        "f_back",
        "findCaller",
        "getouterframes",
        "stack",
        "stacklevel",
        "walk_stack",
    }
)
"""Names that ask for the frames of callers: one frame more or less is seen."""
SCOPE_READERS = frozenset({"locals", "vars", "eval", "exec", "dir", "f_locals"})
"""Names that ask for local variables by name."""
_NOT_WRAPPED = frozenset(
    {"overload", "jit", "njit", "vectorize", "guvectorize", "cfunc", "ccall", "cclass", "script", "compile"}
)
"""Decorators that read the function's own code, or throw it away."""
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def code_of(node: Function) -> list[ast.stmt]:
    """Return a function's statements without its docstring."""
    return node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body


def own_nodes(node: Function) -> Iterator[ast.AST]:
    """Yield what stands in a function's body, and not in a function or class within it."""
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        inner = waiting.pop()
        yield inner
        if not isinstance(inner, _SCOPES):
            waiting += ast.iter_child_nodes(inner)


def is_plain(node: Function) -> bool:
    """Return whether a call of it runs its body at once: no generator, no coroutine."""
    kinds = (ast.Yield, ast.YieldFrom)
    return isinstance(node, ast.FunctionDef) and not any(isinstance(inner, kinds) for inner in own_nodes(node))


def is_stub(node: Function) -> bool:
    """Return whether a function has nothing to do."""
    return all(_is_empty(statement) for statement in code_of(node))


def mentions(nodes: ast.AST | list[ast.stmt], words: frozenset[str]) -> bool:
    """Return whether one of the words is a name, an attribute or a keyword in there."""
    every = [nodes] if isinstance(nodes, ast.AST) else nodes
    return any(_word(inner) in words for node in every for inner in ast.walk(node))


def needs_its_class(node: Function) -> bool:
    """Return whether a body means something else outside its class: bare super(), __class__, private names."""
    for inner in ast.walk(node):
        is_super = isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == "super"
        if is_super and not (isinstance(inner, ast.Call) and inner.args):
            return True
        word = _word(inner)
        if word == "__class__" or is_private(word):
            return True
    return False


def is_private(word: str) -> bool:
    """Return whether a class mangles a name."""
    return word.startswith("__") and not word.endswith("__")


def can_be_wrapped(place: Place) -> bool:
    """Return whether a wrapper around a function changes nothing for ordinary callers."""
    node = place.node
    special = any(mentions(decorator, _NOT_WRAPPED) for decorator in node.decorator_list)
    reads_frames = any(mentions(statement, FRAME_READERS) for statement in node.body)
    return is_plain(node) and not (is_stub(node) or special or reads_frames or node.name == "__del__")


def returned(node: Function) -> list[ast.expr]:
    """Return the expressions that a function returns."""
    returns = [inner for inner in own_nodes(node) if isinstance(inner, ast.Return)]
    return [inner.value for inner in returns if inner.value is not None]


def _is_empty(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise) and statement.exc is not None:
        return mentions(statement.exc, frozenset({"NotImplementedError"}))
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def _word(node: ast.AST) -> str:
    for kind, name in ((ast.Name, "id"), (ast.Attribute, "attr"), (ast.keyword, "arg"), (ast.arg, "arg")):
        if isinstance(node, kind):
            return getattr(node, name) or ""
    return ""
