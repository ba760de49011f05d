"""Decorators that return values of other types, which are worth the same. PURE.

Mutable results are exchanged only where a function has just made them: its caller may rely on changing its own object
elsewhere. Methods whose type Python itself asks for are left alone.
"""

import ast
from collections.abc import Iterator

from envfarm.audit.variants.functions import own_nodes, returned
from envfarm.audit.variants.source import Function, Place, SourceFile
from envfarm.audit.variants.wrapping import Decorator

_ASKED_FOR = frozenset(
    {
        "__index__",
        "__int__",
        "__hash__",
        "__len__",
        "__length_hint__",
        "__reduce__",
        "__reduce_ex__",
        "__getnewargs__",
        "__getnewargs_ex__",
        "__getstate__",
        "__sizeof__",
        "__bool__",
        "__new__",
        "__init__",
        "__prepare__",
        "__mro_entries__",
        "__dir__",
    }
)
_MAKERS = frozenset({"list", "dict", "sorted"})
_FRESH = (ast.List, ast.ListComp, ast.Dict, ast.DictComp)
_READERS = frozenset({"len", "sorted", "sum", "min", "max", "any", "all", "enumerate", "zip", "set", "tuple", "list"})


def returns_a_value(_source: SourceFile, place: Place) -> bool:
    """Return whether a function returns something that may be of any type."""
    values = returned(place.node)
    named = any(not isinstance(value, ast.Constant) or isinstance(value.value, str | int) for value in values)
    plain = all(isinstance(value, ast.Constant) and isinstance(value.value, bool | None) for value in values)
    return named and not plain and place.node.name not in _ASKED_FOR


def returns_fresh(source: SourceFile, place: Place) -> bool:
    """Return whether all that a function returns was made in this call, and is known to nobody else."""
    values = returned(place.node)
    known = returns_a_value(source, place)
    return known and bool(values) and all(_is_fresh(place.node, value) for value in values)


def returns_tuples(_source: SourceFile, place: Place) -> bool:
    """Return whether a function returns a tuple that is written as one."""
    is_special = place.node.name.startswith("__") and place.node.name.endswith("__")
    values = [choice for value in returned(place.node) for choice in _choices(value)]
    return not is_special and any(isinstance(value, ast.Tuple) and value.elts for value in values)


def _choices(value: ast.expr) -> list[ast.expr]:
    return [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]


def _is_fresh(node: Function, value: ast.expr) -> bool:
    if isinstance(value, ast.Constant):
        return True
    if not isinstance(value, ast.Name):
        return _is_made_here(value)
    makers = list(_values_of(node, value.id))
    return bool(makers) and all(_is_made_here(maker) for maker in makers) and not _escapes(node, value.id)


def _is_made_here(value: ast.expr | None) -> bool:
    is_made = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in _MAKERS
    return is_made or isinstance(value, _FRESH)


def _values_of(node: Function, name: str) -> Iterator[ast.expr | None]:
    """Yield what a local variable is bound to; None for what is no plain assignment of its own."""
    simple: set[int] = set()
    for inner in own_nodes(node):
        if isinstance(inner, ast.Assign | ast.AnnAssign):
            targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
            if len(targets) == 1 and isinstance(targets[0], ast.Name) and targets[0].id == name:
                simple.add(id(targets[0]))
                yield inner.value
    for inner in ast.walk(node):
        is_bound = isinstance(inner, ast.Name) and inner.id == name and not isinstance(inner.ctx, ast.Load)
        if (is_bound and id(inner) not in simple) or (isinstance(inner, ast.arg) and inner.arg == name):
            yield None


def _escapes(node: Function, name: str) -> bool:
    """Return whether a local variable's object may be known to somebody else than the caller."""
    return any(
        isinstance(child, ast.Name) and child.id == name and isinstance(child.ctx, ast.Load) and not _only_reads(parent)
        for parent in ast.walk(node)
        for child in ast.iter_child_nodes(parent)
    ) or any(
        isinstance(inner, ast.Name) and inner.id == name
        for scope in ast.walk(node)
        if isinstance(scope, ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef) and scope is not node
        for inner in ast.walk(scope)
    )


def _only_reads(parent: ast.AST) -> bool:
    if isinstance(parent, ast.Call):
        return isinstance(parent.func, ast.Name) and parent.func.id in _READERS
    kinds = (ast.Attribute, ast.Subscript, ast.Return, ast.For, ast.comprehension, ast.Compare, ast.If, ast.While)
    return isinstance(parent, (*kinds, ast.UnaryOp, ast.Delete))


STR_SUBCLASS = Decorator(
    "_as_text",
    '''
import functools as _functools


class _Text(str):
    """Text that this module has made."""

    __slots__ = ()


def _as_text(function):
    """Return text of this module's own type."""

    @_functools.wraps(function)
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        return _Text(result) if type(result) is str else result

    return call
''',
    returns_a_value,
)

NUMBER_SUBCLASSES = Decorator(
    "_as_value",
    '''
import functools as _functools


class _Row(tuple):
    """Values that belong together."""

    __slots__ = ()


class _Count(int):
    """A number that this module has counted."""

    __slots__ = ()


def _as_value(function):
    """Return tuples and whole numbers of this module's own types."""

    @_functools.wraps(function)
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        if type(result) is tuple:
            return _Row(result)
        return _Count(result) if type(result) is int else result

    return call
''',
    returns_a_value,
)

COLLECTION_SUBCLASSES = Decorator(
    "_as_collection",
    '''
import functools as _functools


class _Items(list):
    """Items that this module has collected."""


class _Table(dict):
    """Values by key that this module has collected."""


def _as_collection(function):
    """Return lists and dictionaries of this module's own types."""

    @_functools.wraps(function)
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        if type(result) is list:
            return _Items(result)
        return _Table(result) if type(result) is dict else result

    return call
''',
    returns_fresh,
)

DATACLASS = Decorator(
    "_as_record",
    '''
import dataclasses as _dataclasses
import functools as _functools


@_dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Record:
    """Values that belong together, equal to a tuple or list of the same values."""

    values: tuple

    def __eq__(self, other):
        if isinstance(other, _Record):
            return self.values == other.values
        return self.values == tuple(other) if isinstance(other, (tuple, list)) else NotImplemented

    def __hash__(self):
        return hash(self.values)

    def __repr__(self):
        return repr(self.values)

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return iter(self.values)

    def __contains__(self, value):
        return value in self.values

    def __getitem__(self, index):
        return self.values[index]

    def __add__(self, other):
        return self.values + tuple(other)

    def __radd__(self, other):
        return tuple(other) + self.values

    def __lt__(self, other):
        return self.values < tuple(other)

    def __gt__(self, other):
        return self.values > tuple(other)

    def index(self, *args):
        return self.values.index(*args)

    def count(self, value):
        return self.values.count(value)


def _as_record(function):
    """Return a record in place of a tuple."""

    @_functools.wraps(function)
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        return _Record(result) if type(result) is tuple else result

    return call
''',
    returns_tuples,
)
