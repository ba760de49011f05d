"""Which tests of a Python file measure how long something takes: what they say depends on the machine. PURE.

A test measures when it reads a clock that is for nothing else (``time.perf_counter``), or takes one time of day from
another. So does one that calls a function of its file or a method of its class that does, asks for such a fixture, or
has such a set-up. A date (``time.time() + 60``) is no measure.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from task_miner.languages.python_syntax import parse_bare

_DURATIONS = frozenset(
    {"perf_counter", "process_time", "monotonic", "thread_time", "timeit", "repeat", "default_timer"}
)
_DATES = frozenset({"time", "now", "utcnow"})
_MODULES = frozenset({"time", "timeit", "datetime"})
_SET_UPS = frozenset({"setUp", "setup_method", "setUpClass", "setup_class", "setup"})
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Place = tuple[str, str]
"""Class or nothing, and function."""


@dataclass
class _File:
    functions: dict[_Place, _Function] = field(default_factory=dict)
    bases: dict[str, list[str]] = field(default_factory=dict)
    clocks: dict[str, str] = field(default_factory=dict)
    """By a name in the file: what it is called where it was imported from, a clock or a module of clocks."""


def timed_tests(content: bytes | None) -> frozenset[str]:
    """Return the tests, ``function`` or ``Class::method``, that measure time."""
    tree = parse_bare(content) if content is not None else None
    if tree is None:
        return frozenset()
    file = _File()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in _MODULES:
            file.clocks |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            file.clocks |= {alias.asname: alias.name for alias in node.names if alias.asname and alias.name in _MODULES}
    _read(tree.body, "", file)
    for name in file.bases:
        for place, node in list(_inherited(name, file, frozenset())):
            file.functions.setdefault(place, node)
    measuring = {place for place, node in file.functions.items() if _measures(node, file)}
    while more := {place for place in file.functions if place not in measuring and _uses(place, file) & measuring}:
        measuring |= more
    tests = [(owner, name) for owner, name in measuring if name.startswith("test")]
    return frozenset(f"{owner}::{name}" if owner else name for owner, name in tests)


def _read(body: list[ast.stmt], owner: str, file: _File) -> None:
    for node in body:
        if isinstance(node, _Function):
            file.functions[owner, node.name] = node
        elif isinstance(node, ast.ClassDef):
            name = f"{owner}::{node.name}" if owner else node.name
            file.bases[name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
            _read(node.body, name, file)
        elif isinstance(node, ast.If | ast.Try):
            inner = [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.stmt)]
            _read(inner, owner, file)


def _inherited(name: str, file: _File, seen: frozenset[str]) -> Iterator[tuple[_Place, _Function]]:
    """Yield what a class has from classes of the same file, nearest first, as its own."""
    for base in file.bases.get(name, []):
        if base in seen or base not in file.bases:
            continue
        for (owner, method), node in list(file.functions.items()):
            if owner == base:
                yield (name, method), node
        for (_, method), node in _inherited(base, file, seen | {name}):
            yield (name, method), node


def _measures(function: _Function, file: _File) -> bool:
    dates = {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and _clock(node.value, file) in _DATES
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def is_date(node: ast.expr) -> bool:
        return _clock(node, file) in _DATES or (isinstance(node, ast.Name) and node.id in dates)

    return any(
        _clock(node, file) in _DURATIONS
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and is_date(node.left) and is_date(node.right))
        for node in ast.walk(function)
        if isinstance(node, ast.expr)
    )


def _clock(node: ast.expr, file: _File) -> str:
    """Return the name of the clock that an expression reads; empty where it reads none."""
    called = node.func if isinstance(node, ast.Call) else None
    if isinstance(called, ast.Name):
        return file.clocks.get(called.id, "").removesuffix("_ns")
    if isinstance(called, ast.Attribute):
        root = called.value
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and file.clocks.get(root.id, root.id) in _MODULES:
            return called.attr.removesuffix("_ns")
    return ""


def _uses(place: _Place, file: _File) -> set[_Place]:
    """Return what a function calls of its file and its class, the fixtures that it asks for, and its set-ups."""
    owner, name = place
    function = file.functions[place]
    arguments = function.args
    found = {("", argument.arg) for argument in [*arguments.args, *arguments.kwonlyargs]}
    found |= {(owner, argument.arg) for argument in arguments.args}
    for node in ast.walk(function):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name):
            found.add(("", called.id))
        elif (
            isinstance(called, ast.Attribute)
            and isinstance(called.value, ast.Name)
            and called.value.id in {"self", "cls"}
        ):
            found.add((owner, called.attr))
    if name.startswith("test"):
        found |= {(owner, set_up) for set_up in _SET_UPS}
    return found
