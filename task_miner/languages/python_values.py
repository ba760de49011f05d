"""Keeps the expected values of a Python test outside: its comparisons ask instead of telling. PURE.

Covered: ``assert X == E``, ``E == X``, ``E in X``, ``X is None``, members of an ``and``, the equalities of unittest,
where `E` is a plain literal, or a variable whose every value is one that the test lists.
Not covered: ordering, ``approx``, ``is True``, constants of the module, checks whose failure the test expects.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from envfarm.records.trust import ASK_FUNCTION, TOKEN_FUNCTION
from task_miner.languages.guards import NUMBER_MARK, ProposedCheck, Splice
from task_miner.languages.python_bindings import Binding
from task_miner.languages.python_checks import Comparison, Function, called_name, find_comparisons
from task_miner.languages.python_lines import Source
from task_miner.languages.python_literals import literal_text

_UNMOVABLE = ast.NamedExpr | ast.Yield | ast.YieldFrom


@dataclass(frozen=True)
class _Use:
    """A comparison in which a variable is the whole expected side."""

    comparison: Comparison
    actual: ast.expr
    expected: ast.Name


def propose_checks(source: Source, function: Function, bindings: Mapping[str, Binding]) -> tuple[ProposedCheck, ...]:
    """Return the checks of a function whose expected values can stay outside; those that the base tells are known."""
    comparisons = find_comparisons(source, function)
    made: list[ProposedCheck] = []
    asked: set[int] = set()
    for comparison in comparisons:
        check = _plain_check(source, comparison)
        if check is not None:
            made.append(check)
            asked.add(comparison.start)
    for name, binding in bindings.items():
        uses = _uses(name, [comparison for comparison in comparisons if comparison.start not in asked])
        if not uses or not _only_expected(name, function, uses):
            continue
        check = _token_check(source, binding, uses)
        if check is not None:
            made.append(check)
            asked |= {use.comparison.start for use in uses}
    return tuple(sorted(made, key=lambda check: check.splices[0].start))


def _plain_check(source: Source, comparison: Comparison) -> ProposedCheck | None:
    for actual, expected in comparison.pairs:
        text = literal_text(expected)
        if text is None or not _can_move(actual):
            continue
        if comparison.identity and text != "None":
            continue
        return ProposedCheck(
            path=source.path,
            line=comparison.line,
            operator=comparison.operator,
            expected=(text,),
            known=not source.is_new(expected),
            tokens=False,
            splices=_asking(source, comparison, actual, ""),
        )
    return None


def _can_move(actual: ast.expr) -> bool:
    """Say whether an expression means the same as an argument, and has to be run to be known."""
    return literal_text(actual) is None and not any(isinstance(node, _UNMOVABLE) for node in ast.walk(actual))


def _asking(source: Source, comparison: Comparison, actual: ast.expr, token: str) -> tuple[Splice, Splice]:
    """Return what turns a comparison into a question: the bytes around what is looked at."""
    start, end = source.span(actual)
    before = f"{comparison.lead}{ASK_FUNCTION}({NUMBER_MARK}, {source.breaks(comparison.start, start)}"
    after = f"{source.breaks(end, comparison.end)}{f', {token}' if token else ''})"
    return Splice(comparison.start, start, before), Splice(end, comparison.end, after)


def _uses(name: str, comparisons: Iterable[Comparison]) -> list[_Use]:
    found: list[_Use] = []
    for comparison in comparisons:
        for actual, expected in comparison.pairs:
            if isinstance(expected, ast.Name) and expected.id == name and not comparison.identity:
                found.append(_Use(comparison, actual, expected))
                break
    return found


def _only_expected(name: str, function: Function, uses: list[_Use]) -> bool:
    """Say whether a variable is used for nothing but to be expected."""
    allowed = {id(use.expected) for use in uses}
    harmless = [dropped for use in uses for dropped in use.comparison.dropped]
    harmless += _descriptions(function)
    allowed |= {id(node) for expression in harmless for node in ast.walk(expression)}
    return all(id(node) in allowed for node in _loads(name, function))


def _descriptions(function: Function) -> Iterator[ast.expr]:
    """Yield what only tells a test's reader something: arguments of ``subTest``, and names that are printed."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Call) or called_name(node) not in {"subTest", "print"}:
            continue
        for value in (*node.args, *(keyword.value for keyword in node.keywords)):
            told = (
                value.args[0] if isinstance(value, ast.Call) and called_name(value) == "repr" and value.args else value
            )
            if isinstance(told, ast.Name):
                yield told


def _loads(name: str, function: Function) -> Iterator[ast.Name]:
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
            yield node


def _token_check(source: Source, binding: Binding, uses: list[_Use]) -> ProposedCheck | None:
    texts = [literal_text(cell) for cell in binding.cells]
    expected = tuple(text for text in texts if text is not None)
    operators = {use.comparison.operator for use in uses}
    if not expected or len(expected) != len(texts) or not binding.complete or len(operators) != 1:
        return None
    if not all(_can_move(use.actual) for use in uses):
        return None
    splices: list[Splice] = []
    for token, cell in enumerate(binding.cells):
        start, end = source.span(cell)
        text = f"{TOKEN_FUNCTION}({NUMBER_MARK}{source.breaks(start, end)})"
        splices.append(Splice(start, end, text, token))
    for use in uses:
        splices += _asking(source, use.comparison, use.actual, use.expected.id)
    return ProposedCheck(
        path=source.path,
        line=uses[0].comparison.line,
        operator=operators.pop(),
        expected=expected,
        known=not any(source.is_new(cell) for cell in binding.cells),
        tokens=True,
        splices=tuple(sorted(splices, key=lambda splice: splice.start)),
    )
