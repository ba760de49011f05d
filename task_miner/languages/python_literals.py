"""What a plain literal of a test is worth, as one line of text. PURE.

Covered: numbers, texts, bytes, None, and lists, tuples, sets and dicts of them; what an operator or a method that texts
of tests often have makes of these, such as a joined list of lines or a dedented text.
Not covered: complex numbers, f-strings, names, frozensets (no literal says them).
"""

import ast
import inspect
import math
import operator
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

_LONGEST = 100_000
"""Of a literal's text, and of anything folded."""
_LARGEST = 10**9
"""Of numbers that are folded; a power of two such is refused by its own limit."""
_NUMERIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Sub: operator.sub,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: lambda left, right: left**right if abs(right) <= _LARGEST_POWER else math.nan,
}
_LARGEST_POWER = 512
_METHODS = frozenset(
    {"encode", "join", "lower", "lstrip", "replace", "rstrip", "split", "splitlines", "strip", "title", "upper"}
)
_COLLECTIONS: Mapping[str, Callable[..., Any]] = {"dict": dict, "list": list, "set": set, "tuple": tuple}
_TEXTS: Mapping[str, Callable[[str], str]] = {"dedent": textwrap.dedent, "cleandoc": inspect.cleandoc}


class _NoLiteralError(Exception):
    """The expression is worth what only its own code can tell."""


def literal_text(node: ast.expr) -> str | None:
    """Return a text that `ast.literal_eval` reads as the expression's value; None where it is no plain literal."""
    try:
        text = _render(_value(node))
    except (_NoLiteralError, ArithmeticError, TypeError, ValueError, LookupError, RecursionError, MemoryError):
        return None
    return text if len(text) <= _LONGEST else None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        if node.value is Ellipsis or isinstance(node.value, complex):
            raise _NoLiteralError
        return node.value
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Set):
        return {_value(item) for item in node.elts}
    if isinstance(node, ast.Dict):
        return {_value(_present(key)): _value(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        operand = _number(node.operand)
        return -operand if isinstance(node.op, ast.USub) else +operand
    if isinstance(node, ast.BinOp):
        return _folded(node)
    if isinstance(node, ast.Call):
        return _called(node)
    raise _NoLiteralError


def _present(node: ast.expr | None) -> ast.expr:
    if node is None:
        raise _NoLiteralError
    return node


def _number(node: ast.expr) -> Any:
    value = _value(node)
    if not isinstance(value, int | float):
        raise _NoLiteralError
    return value


def _folded(node: ast.BinOp) -> Any:
    left, right = _value(node.left), _value(node.right)
    if isinstance(node.op, ast.Add):
        return left + right
    if isinstance(node.op, ast.Mult):
        for sized, times in ((left, right), (right, left)):
            if isinstance(sized, str | bytes | list | tuple) and len(sized) * abs(int(times)) > _LONGEST:
                raise _NoLiteralError
        return left * right
    fold = _NUMERIC.get(type(node.op))
    if fold is None or any(not isinstance(value, int | float) or abs(value) > _LARGEST for value in (left, right)):
        raise _NoLiteralError
    folded = fold(left, right)
    if isinstance(folded, complex):
        raise _NoLiteralError
    return folded


def _called(node: ast.Call) -> Any:
    arguments = [_value(argument) for argument in node.args]
    function = node.func
    name = (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )
    if name in _TEXTS and len(arguments) == 1 and isinstance(arguments[0], str) and not node.keywords:
        return _TEXTS[name](arguments[0])
    if isinstance(function, ast.Name) and name in _COLLECTIONS and len(arguments) <= 1:
        named = {keyword.arg: _value(keyword.value) for keyword in node.keywords}
        if None in named or (named and name != "dict"):
            raise _NoLiteralError
        return _COLLECTIONS[name](*arguments, **{str(key): value for key, value in named.items()})
    if isinstance(function, ast.Attribute) and name in _METHODS and not node.keywords:
        receiver = _value(function.value)
        if isinstance(receiver, str | bytes) and len(receiver) <= _LONGEST:
            return getattr(receiver, name)(*arguments)
    raise _NoLiteralError


def _render(value: Any) -> str:
    """Return the value as text that is the same whatever the hash seed."""
    kind = type(value)
    if kind is float:
        if math.isnan(value):
            raise _NoLiteralError
        return repr(value) if math.isfinite(value) else "1e999" if value > 0 else "-1e999"
    if kind is list:
        return f"[{', '.join(map(_render, value))}]"
    if kind is tuple:
        return f"({', '.join(map(_render, value))}{',' if len(value) == 1 else ''})"
    if kind is set:
        return f"{{{', '.join(sorted(map(_render, value)))}}}" if value else "set()"
    if kind is dict:
        return f"{{{', '.join(f'{_render(key)}: {_render(item)}' for key, item in value.items())}}}"
    if value is None or kind in {bool, int, str, bytes}:
        return repr(value)
    raise _NoLiteralError
