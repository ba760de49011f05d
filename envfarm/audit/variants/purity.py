"""Guesses whether a function's result depends on nothing but its arguments. PURE.

It errs on the side of no: what a function calls in its own module is looked at too, and a name whose value may change,
or that is imported from a module that talks to the world, is an end of it. Not seen: methods of what it is given.
"""

import ast
import builtins
from collections.abc import Iterator

from envfarm.audit.variants.functions import SCOPE_READERS, own_nodes
from envfarm.audit.variants.source import Function, Place, SourceFile

_UNSTEADY_BUILTINS = frozenset(
    {"open", "input", "print", "id", "globals", "next", "iter", "setattr", "delattr", "hash"}
)
_STEADY_MODULES = frozenset(
    {
        "base64",
        "binascii",
        "bisect",
        "collections",
        "datetime",
        "enum",
        "fractions",
        "functools",
        "hashlib",
        "html",
        "itertools",
        "json",
        "keyword",
        "math",
        "numbers",
        "operator",
        "re",
        "string",
        "struct",
        "textwrap",
        "typing",
        "unicodedata",
        "urllib",
        "zlib",
        "__future__",
        "abc",
        "copy",
    }
)
_UNSTEADY_ATTRIBUTES = frozenset({"now", "today", "utcnow", "urlopen", "urlretrieve"})
_STEADY_VALUES = (ast.Constant, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.JoinedStr)


def depends_on_nothing_else(source: SourceFile, place: Place) -> bool:
    """Return whether a function of the module, no method, seems to depend on its arguments alone."""
    arguments = place.node.args
    has_arguments = bool(arguments.posonlyargs or arguments.args or arguments.vararg or arguments.kwonlyargs)
    return not place.owners and has_arguments and _is_steady(source, place.node, set())


def _is_steady(source: SourceFile, node: Function, seen: set[str]) -> bool:
    if node.name in seen:
        return True
    seen.add(node.name)
    if node.decorator_list or any(
        isinstance(inner, ast.Global | ast.Import | ast.ImportFrom) for inner in ast.walk(node)
    ):
        return False
    if any(isinstance(inner, ast.Attribute) and inner.attr in _UNSTEADY_ATTRIBUTES for inner in ast.walk(node)):
        return False
    return all(_is_steady_name(source, name, seen) for name in _global_names(node))


def _global_names(node: Function) -> set[str]:
    inner = list(ast.walk(node))
    bound = {argument.arg for argument in inner if isinstance(argument, ast.arg)}
    bound |= {name.id for name in inner if isinstance(name, ast.Name) and not isinstance(name.ctx, ast.Load)}
    bound |= {item.name for item in own_nodes(node) if isinstance(item, ast.FunctionDef | ast.ClassDef)}
    bound |= {item.name for item in inner if isinstance(item, ast.ExceptHandler) and item.name}
    body = [name for statement in node.body for name in ast.walk(statement)]
    return {name.id for name in body if isinstance(name, ast.Name)} - bound


def _is_steady_name(source: SourceFile, name: str, seen: set[str]) -> bool:
    bindings = list(_bindings(source.tree, name))
    if not bindings:
        return hasattr(builtins, name) and name not in _UNSTEADY_BUILTINS | SCOPE_READERS
    if len(bindings) > 1:
        return False
    binding = bindings[0]
    if isinstance(binding, ast.FunctionDef):
        return _is_steady(source, binding, seen)
    if isinstance(binding, ast.Import):
        return all(alias.name.split(".")[0] in _STEADY_MODULES for alias in binding.names)
    if isinstance(binding, ast.ImportFrom):
        return not binding.level and (binding.module or "").split(".")[0] in _STEADY_MODULES
    return isinstance(binding, ast.Assign) and _is_steady_value(binding.value)


def _is_steady_value(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Attribute) and ast.unparse(value.func) == "re.compile"
    return isinstance(value, _STEADY_VALUES)


def _bindings(tree: ast.Module, name: str) -> Iterator[ast.AST]:
    """Yield what binds a name of the module, wherever it stands; a statement that nobody can follow binds all."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            yield node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.asname or alias.name.split(".")[0] for alias in node.names}
            if name in names or "*" in names:
                yield node
        elif isinstance(node, ast.Global) and name in node.names:
            yield node
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.For | ast.With | ast.NamedExpr):
            targets = [inner for inner in ast.walk(node) if isinstance(inner, ast.Name) and inner.id == name]
            if any(not isinstance(target.ctx, ast.Load) for target in targets):
                yield node
