"""What the syntax trees of old and new Python files say. PURE: bytes in, facts out; a file that does not parse differs.

Compared are trees, not texts: comments and formatting are not in them, docstrings and the annotations of functions and
of local variables are taken out. Annotations of classes and modules stay, because dataclasses and their like run them.
"""

import ast
from pathlib import PurePosixPath

from task_miner.languages.contract import ChangedTests, Mutant
from task_miner.languages.python_mutants import make_mutants

_PYTHON = frozenset({".py", ".pyi"})


class PythonCode:
    """Code rules of Python."""

    def same_behaviour(self, path: PurePosixPath, old: bytes | None, new: bytes | None) -> bool:
        """Say whether the two contents run alike."""
        if old == new:
            return True
        if path.suffix == ".pyi":
            return True
        if path.suffix not in _PYTHON:
            return False
        before, after = _bare_tree(old or b""), _bare_tree(new or b"")
        return before is not None and after is not None and ast.dump(before) == ast.dump(after)

    def changed_tests(self, path: PurePosixPath, old: bytes | None, new: bytes | None) -> ChangedTests:
        """Compare the tests of one file; a file that does not parse counts as all added."""
        if path.suffix not in _PYTHON or new is None:
            return ChangedTests(
                added=frozenset(), changed=frozenset(), same=frozenset(), shared_changed=new is not None and old != new
            )
        after = _parts(new)
        before = _parts(old) if old is not None else ({}, "")
        if after is None:
            return ChangedTests(added=frozenset(), changed=frozenset(), same=frozenset(), shared_changed=True)
        tests, shared = after
        old_tests, old_shared = before or ({}, "")
        both = tests.keys() & old_tests.keys()
        changed = frozenset(name for name in both if tests[name] != old_tests[name])
        return ChangedTests(
            added=frozenset(tests.keys() - old_tests.keys()),
            changed=changed,
            same=frozenset(both) - changed,
            shared_changed=shared != old_shared,
        )

    def mutants(self, path: PurePosixPath, old: bytes | None, new: bytes, *, limit: int) -> tuple[Mutant, ...]:
        """Return at most `limit` mutants of the lines that `new` adds to `old`."""
        return make_mutants(str(path), old or b"", new, limit=limit) if path.suffix == ".py" else ()


def is_typing_only(path: PurePosixPath, old: bytes | None, new: bytes | None) -> bool:
    """Say whether only annotations and what serves them (imports, casts) differ between two Python files."""
    if path.suffix == ".pyi":
        return True
    if path.suffix != ".py" or old is None or new is None:
        return False
    before, after = _bare_tree(old), _bare_tree(new)
    if before is None or after is None:
        return False
    return ast.dump(_WithoutTyping().visit(before)) == ast.dump(_WithoutTyping().visit(after))


def _parse(content: bytes) -> ast.Module | None:
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _bare_tree(content: bytes) -> ast.Module | None:
    tree = _parse(content)
    return None if tree is None else _Bare().visit(tree)


class _Bare(ast.NodeTransformer):
    """Takes out docstrings, and annotations that Python does not run."""

    def _without_docstring(self, node: ast.AST) -> ast.AST:
        body = getattr(node, "body", [])
        first = body[0].value if body and isinstance(body[0], ast.Expr) else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            body[:1] = []
        if not body and not isinstance(node, ast.Module):
            body.append(ast.Pass())
        self.generic_visit(node)
        return node

    visit_Module = visit_ClassDef = _without_docstring  # noqa: N815 -- ast asks for these names

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        node.type_comment = None
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        for argument in every:
            if argument is not None:
                argument.annotation = None
                argument.type_comment = None
        node.body = [kept for statement in node.body if (kept := _without_local_annotation(statement)) is not None]
        return self._without_docstring(node)

    visit_FunctionDef = visit_AsyncFunctionDef = _visit_function  # noqa: N815 -- ast asks for these names


def _without_local_annotation(statement: ast.stmt) -> ast.stmt | None:
    if not isinstance(statement, ast.AnnAssign):
        return statement
    if statement.value is None:
        return None
    return ast.Assign(targets=[statement.target], value=statement.value, type_comment=None)


class _WithoutTyping(ast.NodeTransformer):
    """Takes out what only type checkers read."""

    def _drop(self, node: ast.Import | ast.ImportFrom) -> None:  # noqa: ARG002 -- ast passes it by place
        return None

    visit_Import = visit_ImportFrom = _drop  # noqa: N815 -- ast asks for these names

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return ast.Assign(targets=[node.target], value=node.value, type_comment=None)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "cast" and len(node.args) == 2:  # noqa: PLR2004 -- cast(type, value)
            value: ast.AST = self.visit(node.args[1])
            return value
        return self.generic_visit(node)


def _parts(content: bytes) -> tuple[dict[str, str], str] | None:
    """Return the dump of each test by name, and the dump of all that tests share."""
    tree = _bare_tree(content)
    if tree is None:
        return None
    tests: dict[str, str] = {}
    shared: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            tests[node.name] = ast.dump(node)
        elif isinstance(node, ast.ClassDef):
            shared.append(_class_parts(node, tests))
        else:
            shared.append(ast.dump(node))
    return tests, "\n".join(shared)


def _class_parts(node: ast.ClassDef, tests: dict[str, str]) -> str:
    """Add the tests of a class to `tests`, and return the dump of the rest of it."""
    rest: list[str] = []
    for member in node.body:
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and member.name.startswith("test"):
            tests[f"{node.name}::{member.name}"] = ast.dump(member)
        elif isinstance(member, ast.ClassDef):
            inner: dict[str, str] = {}
            rest.append(_class_parts(member, inner))
            tests |= {f"{node.name}::{name}": dump for name, dump in inner.items()}
        else:
            rest.append(ast.dump(member))
    heads = [ast.dump(part) for part in [*node.bases, *node.keywords, *node.decorator_list]]
    return "\n".join([node.name, *heads, *rest]) if heads or rest or not tests else ""
