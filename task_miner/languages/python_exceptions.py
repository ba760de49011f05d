"""Which class a Python test expects to be raised or warned of, and which ordinary one is exchanged for it. PURE."""

import ast
import builtins
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from task_miner.languages.python_bindings import Binding
from task_miner.languages.python_checks import RAISING, WARNING, Function, called_name
from task_miner.languages.python_lines import Source
from task_miner.languages.python_words import seed_of

_ORDINARY = (
    "ValueError",
    "TypeError",
    "KeyError",
    "AttributeError",
    "RuntimeError",
    "IndexError",
    "OSError",
    "NotImplementedError",
    "ZeroDivisionError",
)
_ORDINARY_WARNINGS = ("DeprecationWarning", "UserWarning", "RuntimeWarning", "FutureWarning")


@dataclass(frozen=True)
class Exchange:
    """Classes that are exchanged together, and the name that takes the place of each.

    Attributes:
        nodes: Where they stand: one, or one for each parameter set.
        names: What comes there.
        sets: Positions of the parameter sets; empty where it is none.
    """

    nodes: tuple[ast.expr, ...]
    names: tuple[str, ...]
    sets: tuple[int, ...] = ()


def exchange_exceptions(
    source: Source, function: Function, name: str, bindings: Mapping[str, Binding], *, each: int
) -> Iterator[Exchange]:
    """Yield at most `each` exchanges for each class that new lines of a function expect, another class each round."""
    places = list(_places(source, function, bindings))
    for turn in range(each):
        for nodes, sets, warns in places:
            names = tuple(
                other
                for node in nodes
                if (other := _other(node, seed_of(source.path, name, node.lineno), turn, warns=warns)) is not None
            )
            if len(names) == len(nodes):
                yield Exchange(nodes, names, sets)


def _places(
    source: Source, function: Function, bindings: Mapping[str, Binding]
) -> Iterator[tuple[tuple[ast.expr, ...], tuple[int, ...], bool]]:
    for statement in function.body:
        for node in ast.walk(statement):
            if not isinstance(node, ast.Call) or called_name(node) not in RAISING | WARNING:
                continue
            expected = _expected(node)
            warns = called_name(node) in WARNING
            binding = bindings.get(expected.id) if isinstance(expected, ast.Name) else None
            if binding is not None:
                yield from _cells(source, binding, warns=warns)
            elif expected is not None and source.is_new(expected) and _is_class(expected):
                yield (expected,), (), warns


def _cells(
    source: Source, binding: Binding, *, warns: bool
) -> Iterator[tuple[tuple[ast.expr, ...], tuple[int, ...], bool]]:
    found = [(place, cell) for place, cell in enumerate(binding.cells) if source.is_new(cell) and _is_class(cell)]
    if found:
        sets = tuple(place for place, _ in found) if binding.parametrized else ()
        yield tuple(cell for _, cell in found), sets, warns


def _expected(call: ast.Call) -> ast.expr | None:
    if call.args:
        return call.args[0]
    named = [keyword.value for keyword in call.keywords if keyword.arg in {"expected_exception", "expected_warning"}]
    return named[0] if named else None


def _is_class(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple):
        return bool(node.elts) and node.lineno == node.end_lineno and all(_is_class(item) for item in node.elts)
    return isinstance(node, ast.Name | ast.Attribute) and node.lineno == node.end_lineno and _last(node)[:1].isupper()


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _other(node: ast.expr, seed: int, turn: int, *, warns: bool) -> str | None:
    """Return an ordinary class that is neither base nor child of the expected ones, as far as builtins tell."""
    ordinary = _ORDINARY_WARNINGS if warns or _last(node).endswith("Warning") else _ORDINARY
    classes = node.elts if isinstance(node, ast.Tuple) else [node]
    expected = [getattr(builtins, item.id, None) for item in classes if isinstance(item, ast.Name)]
    kinds = [kind for kind in expected if isinstance(kind, type)]
    others = [name for name in ordinary if not any(_related(getattr(builtins, name), kind) for kind in kinds)]
    if turn >= len(others):
        return None
    return others[(seed + turn) % len(others)]


def _related(one: type, other: type) -> bool:
    return issubclass(one, other) or issubclass(other, one)
