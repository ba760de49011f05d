"""Local variables with other names. PURE.

Not renamed: parameters, imports, functions and classes within the function, and what a lookup by name could find.
"""

import ast
import symtable
from collections.abc import Iterator, Mapping

from envfarm.audit.variants.emission import unparse
from envfarm.audit.variants.functions import SCOPE_READERS, code_of, mentions
from envfarm.audit.variants.source import Function, SourceFile

_BY_NAME = (ast.Global, ast.Nonlocal, ast.ClassDef, ast.Match)


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        if node.name is not None:
            node.name = self.names.get(node.name, node.name)
        self.generic_visit(node)
        return node


def rename_locals(source: SourceFile, node: Function) -> list[ast.stmt] | None:
    """Return a function's statements with each local variable under another name; None where it has none."""
    statements = code_of(node)
    if mentions(statements, SCOPE_READERS) or any(isinstance(inner, _BY_NAME) for inner in ast.walk(node)):
        return None
    names: dict[str, str] = {}
    for old in sorted(_local_names(node)):
        names[old] = source.free_name(f"the_{old.strip('_') or 'unused'}", tuple(names.values()))
    renamed = _Renamed(names)
    return [renamed.visit(statement) for statement in statements] if names else None


def _local_names(node: Function) -> set[str]:
    table = _table(node)
    if table is None:
        return set()
    found = {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_local() and symbol.is_assigned() and not (symbol.is_parameter() or symbol.is_imported())
        if not symbol.is_namespace() and not symbol.get_name().startswith("__")
    }
    for inner in _inner_tables(table):
        found -= {symbol.get_name() for symbol in inner.get_symbols() if not symbol.is_free()}
    return found


def _table(node: Function) -> symtable.Function | None:
    """Return the symbols of a function that stands alone: what is global to it is so in its module as well."""
    alone = ast.Module(body=[node], type_ignores=[])
    text = unparse(alone)
    if text is None or getattr(node, "type_params", []):
        return None
    try:
        tables = symtable.symtable(text, "module.py", "exec").get_children()
    except SyntaxError:
        return None
    named = [table for table in tables if isinstance(table, symtable.Function) and table.get_name() == node.name]
    return named[0] if len(named) == 1 else None


def _inner_tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for inner in table.get_children():
        yield inner
        yield from _inner_tables(inner)
