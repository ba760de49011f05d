"""Which expressions of a Python test are its checks, and which side of each says what is expected. PURE."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from envfarm.records.trust import Operator
from task_miner.languages.python_lines import Source

Function = ast.FunctionDef | ast.AsyncFunctionDef
_PLAIN_SIDES = 2
EQUALITIES = frozenset(
    {
        "assertDictEqual",
        "assertEqual",
        "assertEquals",
        "assertListEqual",
        "assertMultiLineEqual",
        "assertSequenceEqual",
        "assertSetEqual",
        "assertTupleEqual",
        "assert_equal",
        "assert_equals",
        "eq_",
    }
)
RAISING = frozenset({"assertRaises", "assertRaisesRegex", "assertRaisesRegexp", "raises"})
WARNING = frozenset({"assertWarns", "assertWarnsRegex", "warns"})
_CHECK_NAME = re.compile(r"_{0,2}(assert|check|compare|expect|verify|validate|eq_$|ok_$)", re.IGNORECASE)
_CLOCKS = frozenset(
    {"monotonic", "monotonic_ns", "now", "perf_counter", "perf_counter_ns", "process_time", "time", "time_ns", "today"}
    | {"utcnow"}
)
_CLOCK_HOLDERS = frozenset({"time", "datetime", "date", "dt", "timeit"})


@dataclass(frozen=True)
class Comparison:
    """A check of equality or membership, and the bytes that asking would take the place of.

    Attributes:
        line: Where it stands.
        start: Offset of the first byte that asking replaces.
        end: Offset after the last.
        lead: Text that has to stand before the question.
        pairs: What is looked at and what is expected of it, in each way to see it.
        operator: How the two are compared.
        identity: Whether it asks for the very object.
        dropped: Expressions that are gone once it asks: messages.
    """

    line: int
    start: int
    end: int
    lead: str
    pairs: tuple[tuple[ast.expr, ast.expr], ...]
    operator: Operator
    identity: bool
    dropped: tuple[ast.expr, ...]


@dataclass(frozen=True)
class Check:
    """Anything that a test asserts.

    Attributes:
        node: An assert statement or a call.
        expected: Expressions that say what is expected.
        actual: The others of it.
    """

    node: ast.Assert | ast.Call
    expected: tuple[ast.expr, ...]
    actual: tuple[ast.expr, ...]


def called_name(node: ast.expr) -> str:
    """Return the last name of what is called; empty where it has none."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def find_comparisons(source: Source, function: Function) -> tuple[Comparison, ...]:
    """Return the comparisons of a function's body that asking could take the place of, in the order of the file."""
    found: list[Comparison] = []
    for node in _reached(function):
        if isinstance(node, ast.Assert):
            found += _of_assert(source, node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            found += _of_call(source, node.value)
    return tuple(sorted(found, key=lambda comparison: comparison.start))


def _reached(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a body whose failing check fails the test."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Try) and any(_catches_failures(handler) for handler in child.handlers):
            continue
        if isinstance(child, ast.With | ast.AsyncWith) and any(_expects_failures(item) for item in child.items):
            continue
        yield child
        yield from _reached(child)


def _catches_failures(handler: ast.ExceptHandler) -> bool:
    names = {getattr(node, "id", "") for node in ast.walk(handler.type)} if handler.type is not None else {"Exception"}
    return bool(names & {"AssertionError", "BaseException", "Exception"})


def _expects_failures(item: ast.withitem) -> bool:
    call = item.context_expr
    return called_name(call) in RAISING and "AssertionError" in ast.dump(call)


def _of_assert(source: Source, node: ast.Assert) -> Iterator[Comparison]:
    start, end = source.span(node)
    if isinstance(node.test, ast.Compare):
        dropped = () if node.msg is None else (node.msg,)
        yield from _of_compare(node.test, start + len("assert"), end, " ", dropped)
    elif isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.And):
        if node.msg is not None and _has_literal(node.msg):
            return
        for member in node.test.values:
            if isinstance(member, ast.Compare):
                yield from _of_compare(member, *source.span(member), "", ())


def _of_compare(
    node: ast.Compare, start: int, end: int, lead: str, dropped: tuple[ast.expr, ...]
) -> Iterator[Comparison]:
    if len(node.ops) != 1:
        return
    left, right = node.left, node.comparators[0]
    pairs: tuple[tuple[ast.expr, ast.expr], ...] = ((left, right), (right, left))
    operator = Operator.EQUAL
    if isinstance(node.ops[0], ast.In):
        pairs, operator = ((right, left),), Operator.CONTAINS
    elif not isinstance(node.ops[0], ast.Eq | ast.Is):
        return
    identity = isinstance(node.ops[0], ast.Is)
    yield Comparison(node.lineno, start, end, lead, pairs, operator, identity, dropped)


def _of_call(source: Source, call: ast.Call) -> Iterator[Comparison]:
    name = called_name(call)
    start, end = source.span(call)
    dropped = (*call.args[_PLAIN_SIDES:], *(keyword.value for keyword in call.keywords))
    if any(keyword.arg != "msg" for keyword in call.keywords) or any(isinstance(a, ast.Starred) for a in call.args):
        return
    if name in {"assertTrue", "assert_", "ok_"} and call.args and isinstance(call.args[0], ast.Compare):
        yield from _of_compare(call.args[0], start, end, "", (*call.args[1:], *dropped))
    elif name == "assertIsNone" and call.args:
        none = ast.Constant(value=None, lineno=call.lineno, col_offset=0, end_lineno=call.end_lineno, end_col_offset=0)
        pairs: tuple[tuple[ast.expr, ast.expr], ...] = ((call.args[0], none),)
        yield Comparison(call.lineno, start, end, "", pairs, Operator.EQUAL, True, dropped)  # noqa: FBT003 -- identity
    elif len(call.args) >= _PLAIN_SIDES and name in EQUALITIES:
        first, second = call.args[:_PLAIN_SIDES]
        pairs = ((first, second), (second, first))
        yield Comparison(call.lineno, start, end, "", pairs, Operator.EQUAL, False, dropped)  # noqa: FBT003 -- as above
    elif len(call.args) >= _PLAIN_SIDES and name == "assertIn":
        pairs = ((call.args[1], call.args[0]),)
        yield Comparison(call.lineno, start, end, "", pairs, Operator.CONTAINS, False, dropped)  # noqa: FBT003 -- as above


def find_checks(function: Function) -> tuple[Check, ...]:
    """Return everything that a function asserts, in the order of the file."""
    found: list[Check] = []
    for statement in function.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Assert):
                expected, actual = _sides(node.test)
                found.append(Check(node, expected, actual))
            elif isinstance(node, ast.Call):
                check = _check_of_call(node)
                found += [check] if check else []
    return tuple(sorted(found, key=lambda check: (check.node.lineno, check.node.col_offset)))


def _check_of_call(node: ast.Call) -> Check | None:
    name = called_name(node)
    values = [*node.args, *(keyword.value for keyword in node.keywords)]
    if name in RAISING | WARNING:
        said = [keyword.value for keyword in node.keywords if keyword.arg == "match"]
        said += [argument for argument in node.args[1:2] if "Regex" in name]
        return Check(node, tuple(said), ())
    if not _CHECK_NAME.match(name):
        return None
    if name in {"assertTrue", "assertFalse", "assert_"} and node.args:
        expected, actual = _sides(node.args[0])
        return Check(node, expected, actual)
    expected = tuple(value for value in values if not _computes(value))
    return Check(node, expected, tuple(value for value in values if value not in expected))


def _sides(test: ast.expr) -> tuple[tuple[ast.expr, ...], tuple[ast.expr, ...]]:
    """Return the expressions of an asserted one that say what is expected, and the others."""
    if isinstance(test, ast.BoolOp):
        parts = [_sides(value) for value in test.values]
        return tuple(e for part in parts for e in part[0]), tuple(a for part in parts for a in part[1])
    if isinstance(test, ast.UnaryOp):
        return _sides(test.operand)
    if isinstance(test, ast.Compare):
        left, right = test.left, test.comparators[-1]
        if isinstance(test.ops[0], ast.In | ast.NotIn):
            return (left,), (right,)
        if _says_more(left, right):
            return (left,), tuple(test.comparators)
        return (right,), (left, *test.comparators[:-1])
    if isinstance(test, ast.Call):
        arguments = (*test.args, *(keyword.value for keyword in test.keywords))
        return arguments[1:] or arguments, (test.func, *arguments[:1]) if len(arguments) > 1 else (test.func,)
    return (), (test,)


def _says_more(left: ast.expr, right: ast.expr) -> bool:
    """Say whether the left side is the expected one: people write it on the right where both could be."""
    if _computes(left) != _computes(right):
        return not _computes(left) and _has_literal(left)
    return _has_literal(left) and not _has_literal(right)


def _computes(node: ast.expr) -> bool:
    return any(isinstance(inner, ast.Call | ast.Await | ast.Subscript) for inner in ast.walk(node))


def _has_literal(node: ast.expr) -> bool:
    return any(isinstance(inner, ast.Constant | ast.List | ast.Dict | ast.Set) for inner in ast.walk(node))


def reads_clock(function: Function) -> bool:
    """Say whether a check of a function looks at the clock, itself or by a variable that is read from it."""
    timed: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value and _ticks(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            timed |= {inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)}
    for check in find_checks(function):
        names = {inner.id for inner in ast.walk(check.node) if isinstance(inner, ast.Name)}
        if names & timed or _ticks(check.node):
            return True
    return False


def _ticks(node: ast.AST) -> bool:
    """Say whether an expression reads the clock now, rather than hand it to something that is built with it."""
    for inner in ast.walk(node):
        if not isinstance(inner, ast.Call) or called_name(inner) not in _CLOCKS:
            continue
        function = inner.func
        if isinstance(function, ast.Name):
            if function.id not in {"now", "today"}:
                return True
        elif isinstance(function, ast.Attribute) and called_name(function.value) in _CLOCK_HOLDERS:
            return True
    return False
