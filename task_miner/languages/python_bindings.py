"""Which values the variables of a Python test can have, as far as they are written in the test itself. PURE.

Read are: sets of ``parametrize``, assignments to one name, and loops over what is listed in the function. Not read are:
constants of the module, decorators of the class, comprehensions, ``with`` and unpacked assignments.
"""

import ast
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from task_miner.languages.python_checks import Function, called_name

Columns = list[tuple[str, list[ast.expr]]]
_NAMES_AND_VALUES = ("argnames", "argvalues")


@dataclass
class Binding:
    """What is known of a variable.

    Attributes:
        cells: Expressions that it is bound to, in the order of the file.
        bound: How often a place that was read binds it.
        complete: Whether no other place does.
        parametrized: Whether the cells are one for each parameter set.
    """

    cells: list[ast.expr] = field(default_factory=list)
    bound: int = 0
    complete: bool = False
    parametrized: bool = False


def parametrize_names(tree: ast.Module) -> frozenset[str]:
    """Return the names by which a module calls ``pytest.mark.parametrize`` without its dots."""
    names = {"parametrize"}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute) and node.value.attr == "parametrize":
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names if alias.name == "parametrize"}
    return frozenset(names)


def read_bindings(function: Function, parametrize: Collection[str]) -> dict[str, Binding]:
    """Return what is known of a function's variables, by name."""
    found: dict[str, Binding] = {}
    for decorator in function.decorator_list:
        for name, cells in _parameter_columns(decorator, parametrize):
            binding = found.setdefault(name, Binding())
            binding.cells += cells
            binding.bound += 1
            binding.parametrized = True
    lists = _lists_looped_over(function)
    for node in ast.walk(function):
        for name, cells in _statement_columns(node, lists):
            binding = found.setdefault(name, Binding())
            binding.cells += cells
            binding.bound += 1
    everywhere = Counter(_bound_names(function))
    for name, binding in found.items():
        binding.complete = everywhere[name] == binding.bound
        binding.cells.sort(key=lambda cell: (cell.lineno, cell.col_offset))
    return found


def _parameter_columns(decorator: ast.expr, parametrize: Collection[str]) -> Columns:
    if not isinstance(decorator, ast.Call) or called_name(decorator) not in parametrize:
        return []
    given = {keyword.arg or "": keyword.value for keyword in decorator.keywords}
    given.update(zip(_NAMES_AND_VALUES, decorator.args, strict=False))
    if "indirect" in given or "" in given:
        return []
    names, alone = _names(given.get("argnames"))
    values = given.get("argvalues")
    if not names or not isinstance(values, ast.List | ast.Tuple):
        return []
    rows = [_row(value, alone=alone) for value in values.elts]
    return _transposed(names, rows)


def _names(node: ast.expr | None) -> tuple[list[str], bool]:
    """Return the parameters' names, and whether a single one stands for whole values."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        names = [name.strip() for name in node.value.split(",") if name.strip()]
        return names, len(names) == 1
    if isinstance(node, ast.Tuple | ast.List):
        texts = [item.value for item in node.elts if isinstance(item, ast.Constant) and isinstance(item.value, str)]
        return (texts if len(texts) == len(node.elts) else []), False
    return [], False


def _row(node: ast.expr, *, alone: bool) -> Sequence[ast.expr]:
    if isinstance(node, ast.Call) and called_name(node) == "param":
        return node.args
    if alone:
        return [node]
    return node.elts if isinstance(node, ast.Tuple | ast.List) else []


def _transposed(names: list[str], rows: Sequence[Sequence[ast.expr]]) -> Columns:
    if any(len(row) != len(names) or any(isinstance(cell, ast.Starred) for cell in row) for row in rows):
        return []
    return [(name, [row[place] for row in rows]) for place, name in enumerate(names)]


def _lists_looped_over(function: Function) -> dict[str, ast.expr]:
    """Return the local variables that are bound once, to a literal, and used once: a loop may go over them."""
    bound = Counter(_bound_names(function))
    loads = [node for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    used = Counter(node.id for node in loads)
    found: dict[str, ast.expr] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if bound[name] == 1 and used[name] == 1:
                found[name] = node.value
    return found


def _statement_columns(node: ast.AST, lists: dict[str, ast.expr]) -> Columns:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return [(node.targets[0].id, [node.value])]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        return [(node.target.id, [node.value])]
    if isinstance(node, ast.For | ast.AsyncFor):
        return _loop_columns(node.target, node.iter, lists)
    return []


def _loop_columns(target: ast.expr, iterated: ast.expr, lists: dict[str, ast.expr]) -> Columns:
    if isinstance(iterated, ast.Call) and called_name(iterated) == "enumerate" and isinstance(target, ast.Tuple):
        if len(target.elts) == len(("number", "item")) and iterated.args:
            return _loop_columns(target.elts[1], iterated.args[0], lists)
        return []
    if isinstance(iterated, ast.Call) and called_name(iterated) == "items" and isinstance(target, ast.Tuple):
        holder = iterated.func.value if isinstance(iterated.func, ast.Attribute) else iterated
        mapping = lists.get(holder.id, holder) if isinstance(holder, ast.Name) else holder
        if not isinstance(mapping, ast.Dict) or None in mapping.keys:
            return []
        pairs = zip(mapping.keys, mapping.values, strict=True)
        return _unpacked(target, [ast.Tuple(elts=[key, value]) for key, value in pairs if key is not None])
    if isinstance(iterated, ast.Name):
        iterated = lists.get(iterated.id, iterated)
    return _unpacked(target, iterated.elts) if isinstance(iterated, ast.List | ast.Tuple) else []


def _unpacked(target: ast.expr, rows: Sequence[ast.expr]) -> Columns:
    if any(isinstance(row, ast.Starred) for row in rows):
        return []
    if isinstance(target, ast.Name):
        return [(target.id, list(rows))]
    if not isinstance(target, ast.Tuple | ast.List):
        return []
    table = [row.elts if isinstance(row, ast.Tuple | ast.List) else [] for row in rows]
    columns = _transposed([str(place) for place in range(len(target.elts))], table)
    return [found for inner, (_, cells) in zip(target.elts, columns, strict=False) for found in _unpacked(inner, cells)]


def _bound_names(function: Function) -> Iterator[str]:
    """Yield a name for each place of a function that binds it, whatever the scope."""
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Global | ast.Nonlocal):
            yield from node.names
        elif isinstance(node, Function | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            yield node.name or ""
        elif isinstance(node, ast.MatchMapping):
            yield node.rest or ""
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]
