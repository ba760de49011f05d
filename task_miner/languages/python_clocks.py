"""Which tests of a Python file measure how long something takes: what they say depends on the machine. PURE."""

import ast
from collections.abc import Iterator

from task_miner.languages.python_syntax import parse_bare

_CLOCKS = frozenset({"perf_counter", "process_time", "monotonic", "thread_time", "timeit", "default_timer"})
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def timed_tests(content: bytes | None) -> frozenset[str]:
    """Return the tests, ``function`` or ``Class::method``, that measure time, themselves or by a helper of the file.

    A date, such as the time of day less a number, is no measure.
    """
    tree = parse_bare(content) if content is not None else None
    if tree is None:
        return frozenset()
    functions = dict(_functions(tree.body, ""))
    measuring = {name for name, node in functions.items() if _measures(node)}
    while True:
        short = {name.rsplit("::", 1)[-1] for name in measuring}
        more = {name for name, node in functions.items() if name not in measuring and _called(node) & short}
        if not more:
            break
        measuring |= more
    return frozenset(name for name in measuring if name.rsplit("::", 1)[-1].startswith("test"))


def _functions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, _Function]]:
    for node in body:
        if isinstance(node, _Function):
            yield f"{prefix}{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{prefix}{node.name}::")


def _measures(function: _Function) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _name(node).removesuffix("_ns") in _CLOCKS:
            return True
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and isinstance(node.left, ast.Call):
            since = isinstance(node.right, ast.Name | ast.Attribute)
            if since and ast.unparse(node.left.func) == "time.time":
                return True
    return False


def _called(function: _Function) -> set[str]:
    return {_name(node) for node in ast.walk(function) if isinstance(node, ast.Call)}


def _name(call: ast.Call) -> str:
    called = call.func
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
