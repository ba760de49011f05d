"""Proposes how each test of a Python file can be altered so that its grading cannot be talked into a pass. PURE.

The same files give the same proposals, whatever the hash seed. Nothing is run: what is proposed has to be tried under
the true fix and on the base.
"""

import ast
from collections.abc import Collection, Iterator

from task_miner.languages.guards import ProposedTest
from task_miner.languages.python_bindings import parametrize_names, read_bindings
from task_miner.languages.python_checks import Function, reads_clock
from task_miner.languages.python_lines import read_source
from task_miner.languages.python_twins import propose_twins
from task_miner.languages.python_values import propose_checks


def propose_guards(path: str, old: bytes | None, new: bytes, definitions: Collection[str]) -> tuple[ProposedTest, ...]:
    """Return how the named tests of a fixed file can be altered, in the order of the file.

    Tests that a file inherits or makes at run time have no definition and are left out; so are those with a check that
    reads a clock. Of definitions with one name the last counts.

    Args:
        path: Path of the test file in the workspace.
        old: The file on the base; None where the patch adds it.
        new: The fixed file. One that does not parse, or is not UTF-8, has no proposals.
        definitions: Names of tests, ``function`` or ``Class::method``; a function's name alone means every class's.
    """
    source = read_source(path, old, new)
    if source is None:
        return ()
    parametrize = parametrize_names(source.tree)
    wanted = {name: node for name, node in _definitions(source.tree.body, "") if _is_wanted(name, definitions)}
    proposed: list[ProposedTest] = []
    for name, node in wanted.items():
        if reads_clock(node):
            continue
        bindings = read_bindings(node, parametrize)
        proposed.append(
            ProposedTest(
                path=path,
                name=name,
                first_line=min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]),
                last_line=node.end_lineno or node.lineno,
                checks=propose_checks(source, node, bindings),
                twins=propose_twins(source, name, node, bindings),
            )
        )
    return tuple(sorted(proposed, key=lambda test: test.first_line))


def _is_wanted(name: str, definitions: Collection[str]) -> bool:
    return name in definitions or name.rsplit("::", 1)[-1] in definitions


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Function]]:
    for node in body:
        if isinstance(node, Function):
            yield f"{prefix}{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from _definitions(node.body, f"{prefix}{node.name}::")
        elif isinstance(node, ast.If | ast.With):
            yield from _definitions([*node.body, *(node.orelse if isinstance(node, ast.If) else [])], prefix)
        elif isinstance(node, ast.Try):
            handled = [statement for handler in node.handlers for statement in handler.body]
            yield from _definitions([*node.body, *handled, *node.orelse, *node.finalbody], prefix)
