"""Comprehensions as loops, and loops as comprehensions. PURE.

Only where nobody can tell: what a closure or a lookup by name could see stays as it is.
"""

import ast
import copy
from collections import Counter
from collections.abc import Iterator, Sequence

from envfarm.audit.variants.functions import SCOPE_READERS, code_of, mentions
from envfarm.audit.variants.source import Function, SourceFile
from envfarm.python_trees import parse_tree

_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_CLOSURES = (ast.Lambda, ast.GeneratorExp, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_SUSPENDED = (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
_CONSUMERS = frozenset({"list", "tuple", "set", "frozenset", "sorted", "sum", "dict", "max", "min", "len"})
"""Builtins that take everything from what they are given, at once."""
_FIRST = {"append": "[]", "add": "set()"}


def comprehensions_to_loops(source: SourceFile, node: Function) -> list[ast.stmt] | None:
    """Return a function's statements with loops in place of comprehensions; None where that could be seen."""
    if mentions(node, SCOPE_READERS):
        return None
    holder = ast.Module(body=code_of(node), type_ignores=[])
    _Loops(source).visit(holder)
    return holder.body


def loops_to_comprehensions(_source: SourceFile, node: Function) -> list[ast.stmt] | None:
    """Return a function's statements with comprehensions in place of loops that append; None where that is seen."""
    if mentions(node, SCOPE_READERS) or any(isinstance(inner, ast.Global | ast.Nonlocal) for inner in ast.walk(node)):
        return None
    holder = ast.Module(body=code_of(node), type_ignores=[])
    for block in _blocks(holder):
        index = 0
        while index + 1 < len(block):
            made = _comprehension(node, block[index], block[index + 1])
            if made is not None:
                block[index : index + 2] = [made]
            index += 1
    return holder.body


class _Loops(ast.NodeTransformer):
    def __init__(self, source: SourceFile) -> None:
        self.source = source
        self.taken: list[str] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        return node

    def visit_Return(self, node: ast.Return) -> list[ast.stmt]:
        return self._with_loop(node, node.value)

    def visit_Assign(self, node: ast.Assign) -> list[ast.stmt]:
        simple = len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
        return self._with_loop(node, node.value if simple else None)

    def _with_loop(self, node: ast.Return | ast.Assign, value: ast.expr | None) -> list[ast.stmt]:
        found = self._comprehension_in(value)
        if found is None or not _can_be_a_loop(found):
            return [node]
        name = self._free("collected")
        is_all = value is found
        kind = type(found) if is_all or not isinstance(found, ast.GeneratorExp) else ast.ListComp
        loop = self._loop(found, kind, name)
        result = ast.Name(id=name, ctx=ast.Load())
        if is_all:
            node.value = result
        elif isinstance(value, ast.Call):
            value.args[0] = result
        return [*loop, node]

    def _comprehension_in(self, value: ast.expr | None) -> _Comprehension | None:
        """Return the comprehension that is all of a value, or all that a builtin is given."""
        if isinstance(value, ast.ListComp | ast.SetComp | ast.DictComp):
            return value
        if not isinstance(value, ast.Call) or len(value.args) != 1 or value.keywords:
            return None
        called, given = value.func, value.args[0]
        is_join = isinstance(called, ast.Attribute) and isinstance(called.value, ast.Constant) and called.attr == "join"
        is_consumer = isinstance(called, ast.Name) and called.id in _CONSUMERS and not _is_bound(self.source, called.id)
        takes_all = is_join or is_consumer
        return given if takes_all and isinstance(given, ast.ListComp | ast.GeneratorExp) else None

    def _loop(self, found: _Comprehension, kind: type[ast.expr], name: str) -> list[ast.stmt]:
        names = {target: self._free(f"each_{target.strip('_') or 'unused'}") for target in _targets(found)}
        first = found.generators[0].iter
        inner = copy.deepcopy(found)
        inner.generators[0].iter = ast.Constant(value=None)
        for node in ast.walk(inner):
            if isinstance(node, ast.Name):
                node.id = names.get(node.id, node.id)
        inner.generators[0].iter = first
        empty = {ast.ListComp: "[]", ast.SetComp: "set()", ast.DictComp: "{}"}[kind]
        block: list[ast.stmt] = [_kept(inner, name)]
        for generator in reversed(inner.generators):
            for test in reversed(generator.ifs):
                block = [ast.If(test=test, body=block, orelse=[])]
            block = [ast.For(target=generator.target, iter=generator.iter, body=block, orelse=[])]
        return [*parse_tree(f"{name} = {empty}").body, *block]

    def _free(self, wanted: str) -> str:
        name = self.source.free_name(wanted, self.taken)
        self.taken.append(name)
        return name


def _kept(found: _Comprehension, name: str) -> ast.stmt:
    """Return the statement that keeps one element."""
    if isinstance(found, ast.DictComp):
        place = ast.Subscript(value=ast.Name(id=name, ctx=ast.Load()), slice=found.key, ctx=ast.Store())
        return ast.Assign(targets=[place], value=found.value)
    method = "add" if isinstance(found, ast.SetComp) else "append"
    called = ast.Attribute(value=ast.Name(id=name, ctx=ast.Load()), attr=method, ctx=ast.Load())
    return ast.Expr(value=ast.Call(func=called, args=[found.elt], keywords=[]))


def _can_be_a_loop(found: _Comprehension) -> bool:
    if any(generator.is_async for generator in found.generators):
        return False
    inner = [node for node in ast.walk(found) if node is not found]
    plain = not any(isinstance(node, (*_CLOSURES, *_SUSPENDED)) for node in inner)
    targets = [node for generator in found.generators for node in ast.walk(generator.target)]
    return plain and not any(isinstance(node, ast.Attribute | ast.Subscript) for node in targets)


def _targets(found: _Comprehension) -> list[str]:
    every = [node for generator in found.generators for node in ast.walk(generator.target)]
    return list(dict.fromkeys(node.id for node in every if isinstance(node, ast.Name)))


def _is_bound(source: SourceFile, name: str) -> bool:
    """Return whether a module gives a builtin's name to something else, anywhere."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load):
            return True
        if isinstance(node, ast.arg) and node.arg == name:
            return True
        if isinstance(node, ast.alias) and (node.asname or node.name) in {name, "*"}:
            return True
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            return True
    return False


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Yield the blocks of a function's own code outside `try`: what a loop has kept when it fails is lost in others."""
    if isinstance(node, (*_CLOSURES, ast.Try, getattr(ast, "TryStar", ast.Try))):
        return
    for field in ("body", "orelse"):
        block = getattr(node, field, None)
        if isinstance(block, list):
            yield block
    for inner in ast.iter_child_nodes(node):
        yield from _blocks(inner)


def _comprehension(function: Function, first: ast.stmt, loop: ast.stmt) -> ast.Assign | None:
    """Return the comprehension that is the same as an empty collection and a loop that fills it."""
    if not (isinstance(first, ast.Assign) and len(first.targets) == 1 and isinstance(first.targets[0], ast.Name)):
        return None
    name = first.targets[0].id
    generators, block = _generators(loop)
    kept = _kept_element(block, name)
    if not generators or kept is None or ast.unparse(first.value) != _FIRST[kept[0]]:
        return None
    method, element = kept
    parts = [element, *(part for generator in generators for part in (generator.iter, *generator.ifs))]
    if not _are_plain(parts, name) or not _stay_inside(function, loop, generators) or _is_captured(function, name):
        return None
    kind = ast.ListComp if method == "append" else ast.SetComp
    return ast.Assign(targets=first.targets, value=kind(elt=element, generators=generators))


def _generators(statement: ast.stmt) -> tuple[list[ast.comprehension], list[ast.stmt]]:
    """Return the loops and conditions around one block, and the block."""
    generators: list[ast.comprehension] = []
    block = [statement]
    while len(block) == 1:
        inner = block[0]
        if isinstance(inner, ast.For) and not inner.orelse:
            generators.append(ast.comprehension(target=inner.target, iter=inner.iter, ifs=[], is_async=0))
            block = inner.body
        elif isinstance(inner, ast.If) and not inner.orelse and generators:
            generators[-1].ifs.append(inner.test)
            block = inner.body
        else:
            break
    return generators, block


def _kept_element(block: Sequence[ast.stmt], name: str) -> tuple[str, ast.expr] | None:
    match block:
        case [
            ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=kept), attr=method), args=[element]) as call)
        ]:
            fits = kept == name and method in _FIRST and not call.keywords and not isinstance(element, ast.Starred)
            return (method, element) if fits else None
    return None


def _are_plain(parts: Sequence[ast.expr], name: str) -> bool:
    inner = [node for part in parts for node in ast.walk(part)]
    seen = any(isinstance(node, ast.Name) and node.id in {name, "super", "__class__"} for node in inner)
    return not seen and not any(isinstance(node, (*_CLOSURES, *_SUSPENDED)) for node in inner)


def _stay_inside(function: Function, loop: ast.stmt, generators: Sequence[ast.comprehension]) -> bool:
    """Return whether the loop's variables are plain names that nothing outside the loop reads or writes."""
    targets = [node for generator in generators for node in ast.walk(generator.target)]
    if any(isinstance(node, ast.Attribute | ast.Subscript) for node in targets):
        return False
    names = {node.id for node in targets if isinstance(node, ast.Name)}
    return _uses(function, names) == _uses(loop, names)


def _uses(node: ast.AST, names: set[str]) -> Counter[str]:
    every = [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)]
    every += [inner.arg for inner in ast.walk(node) if isinstance(inner, ast.arg)]
    return Counter(name for name in every if name in names)


def _is_captured(function: Function, name: str) -> bool:
    inner = [node for node in ast.walk(function) if isinstance(node, _CLOSURES) and node is not function]
    return any(_uses(node, {name}) for node in inner)
