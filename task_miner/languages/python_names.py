"""Names that checks of a Python test expect, and which other name of the same test each is exchanged for. PURE.

For checks without a literal: in ``assert decoded == payload`` another variable that is set by then, for a class in
``isinstance`` another ordinary one. No name is new to the test but those of builtin classes.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from task_miner.languages.python_checks import Check, Function, called_name
from task_miner.languages.python_lines import Source
from task_miner.languages.python_words import seed_of

_ORDINARY = ("dict", "list", "str", "int", "tuple", "bytes", "float")
_INSTANCE_CHECKS = frozenset({"isinstance", "assertIsInstance", "issubclass"})
_HOLDERS = frozenset({"cls", "self"})


@dataclass(frozen=True)
class Renaming:
    """A name or attribute that another name takes the place of."""

    node: ast.expr
    name: str


def rename_expected(source: Source, name: str, function: Function, checks: tuple[Check, ...]) -> Iterator[Renaming]:
    """Yield exchanges of names on new lines, one for each place."""
    for check in checks:
        for node, choices in (*_classes(check), *_variables(function, check)):
            if not choices or not source.is_new(node) or node.lineno != node.end_lineno:
                continue
            yield Renaming(node, choices[seed_of(source.path, name, source.span(node)[0]) % len(choices)])


def _classes(check: Check) -> Iterator[tuple[ast.expr, list[str]]]:
    for node in ast.walk(check.node):
        if isinstance(node, ast.Call) and called_name(node) in _INSTANCE_CHECKS and len(node.args) > 1:
            expected = node.args[1]
            if isinstance(expected, ast.Name | ast.Attribute):
                yield expected, [name for name in _ORDINARY if name != getattr(expected, "id", "")]


def _variables(function: Function, check: Check) -> Iterator[tuple[ast.expr, list[str]]]:
    used = {node.id for node in ast.walk(check.node) if isinstance(node, ast.Name)}
    for node in check.expected:
        if isinstance(node, ast.Name) and node.id not in {"True", "False"}:
            yield node, [name for name in _set_before(function, check.node.lineno) if name not in used]


def _set_before(function: Function, line: int) -> list[str]:
    """Return what a function's own statements, not what is in their blocks, assign above a line."""
    found: dict[str, None] = {}
    for statement in function.body:
        if isinstance(statement, ast.Assign) and (statement.end_lineno or 0) < line:
            found.update({target.id: None for target in statement.targets if isinstance(target, ast.Name)})
    arguments = function.args
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [*found, *(argument.arg for argument in parameters if argument.arg not in _HOLDERS)]
