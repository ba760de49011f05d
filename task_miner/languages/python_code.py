"""What the syntax trees of old and new Python files say. PURE: bytes in, facts out; a file that does not parse differs.

Compared are trees, not texts: comments and formatting are not in them, and `python_syntax` takes out what nothing runs.
"""

import ast
from collections.abc import Mapping
from pathlib import PurePosixPath

from task_miner.environment.runner_options import settings_differ
from task_miner.languages.contract import ChangedTests, Mutant
from task_miner.languages.guards import ProposedTest
from task_miner.languages.python_guards import propose_guards
from task_miner.languages.python_mutants import make_mutants
from task_miner.languages.python_syntax import dump, parse_bare
from task_miner.languages.python_tests_tree import compare_tests

_NONE: frozenset[str] = frozenset()


class PythonCode:
    """Code rules of Python."""

    def same_behaviour(self, path: PurePosixPath, old: bytes | None, new: bytes | None) -> bool:
        """Say whether the two contents run alike; a file that comes or goes never does."""
        if old == new or path.suffix == ".pyi":
            return True
        if path.suffix != ".py" or old is None or new is None:
            return False
        before, after = parse_bare(old), parse_bare(new)
        return before is not None and after is not None and dump(before) == dump(after)

    def changed_tests(self, path: PurePosixPath, old: bytes | None, new: bytes | None) -> ChangedTests:
        """Compare the tests of one file; data beside tests is shared by them."""
        if path.suffix == ".py":
            return compare_tests(old, new)
        told = settings_differ(path.name, old, new) if len(path.parts) == 1 else None
        changed = new is not None and old != new and path.suffix != ".pyi" if told is None else told
        return ChangedTests(added=_NONE, changed=_NONE, same=_NONE, shared_changed=changed)

    def mutants(self, path: PurePosixPath, old: bytes | None, new: bytes, *, limit: int) -> tuple[Mutant, ...]:
        """Return at most `limit` mutants of the lines that `new` adds to `old`."""
        return make_mutants(str(path), old or b"", new, limit=limit) if path.suffix == ".py" else ()

    def guards(
        self, path: PurePosixPath, old: bytes | None, new: bytes, functions: frozenset[str]
    ) -> tuple[ProposedTest, ...]:
        """Return how tests of a fixed file could be altered, by names of functions without their classes."""
        return propose_guards(str(path), old, new, functions) if path.suffix == ".py" else ()

    def labels_of(self, changes: Mapping[str, tuple[bytes | None, bytes | None]]) -> tuple[str, ...]:
        """Return what kind of work a change of source is: ``lint``, ``typing``, or nothing in particular.

        Args:
            changes: Old and new content of each source file, by path.
        """
        pairs = [(PurePosixPath(path), old, new) for path, (old, new) in changes.items()]
        if pairs and all(_alike(path, old, new, _WithoutImports()) for path, old, new in pairs):
            return ("lint",)
        return ("typing",) if pairs and all(is_typing_only(path, old, new) for path, old, new in pairs) else ()


def is_typing_only(path: PurePosixPath, old: bytes | None, new: bytes | None) -> bool:
    """Say whether only annotations and what serves them (imports, casts) differ between two Python files."""
    return path.suffix == ".pyi" or _alike(path, old, new, _WithoutTyping())


def _alike(path: PurePosixPath, old: bytes | None, new: bytes | None, without: ast.NodeTransformer) -> bool:
    if path.suffix != ".py" or old is None or new is None:
        return False
    before, after = parse_bare(old), parse_bare(new)
    if before is None or after is None:
        return False
    return dump(without.visit(before)) == dump(without.visit(after))


class _WithoutImports(ast.NodeTransformer):
    """Takes out imports: linters sort them, and remove those that nobody uses."""

    def visit_Import(self, node: ast.Import) -> None:
        """Drop it."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Drop it."""


class _WithoutTyping(_WithoutImports):
    """Takes out what only type checkers read, decorated functions' annotations included."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        """Keep the value."""
        self.generic_visit(node)
        return None if node.value is None else ast.Assign(targets=[node.target], value=node.value, type_comment=None)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """Keep the name."""
        return ast.arg(arg=node.arg, annotation=None, type_comment=None)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Keep all but what it returns."""
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        """Keep all but what it returns."""
        node.returns = None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """Drop what runs for type checkers only."""
        name = node.test.attr if isinstance(node.test, ast.Attribute) else getattr(node.test, "id", "")
        return None if name == "TYPE_CHECKING" and not node.orelse else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Keep what a cast casts."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "cast" and len(node.args) == 2:  # noqa: PLR2004 -- cast(type, value)
            return self.visit(node.args[1])  # type: ignore[no-any-return] # a transformer returns nodes
        return self.generic_visit(node)
