"""Which tests a Python file has, as its syntax tree tells them, and what they share. PURE."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from task_miner.languages.contract import ChangedTests
from task_miner.languages.python_clocks import timed_tests
from task_miner.languages.python_syntax import dump, parse_bare

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_NONE: frozenset[str] = frozenset()


@dataclass
class _TestFile:
    """The tests of a file by name, ``function`` or ``Class::method``, and the text of all else."""

    tests: dict[str, str] = field(default_factory=dict)
    shared: list[str] = field(default_factory=list)


def compare_tests(old: bytes | None, new: bytes | None) -> ChangedTests:
    """Compare the tests of two versions of a file; None where it is absent.

    A file that does not parse has no tests by name: all of it counts as shared.
    """
    if new is None:
        return ChangedTests(added=_NONE, changed=_NONE, same=_NONE, shared_changed=False)
    after = _read(new)
    if after is None:
        return ChangedTests(added=_NONE, changed=_NONE, same=_NONE, shared_changed=old != new)
    before = (_read(old) if old is not None else None) or _TestFile()
    both = after.tests.keys() & before.tests.keys()
    changed = frozenset(name for name in both if after.tests[name] != before.tests[name])
    return ChangedTests(
        added=frozenset(after.tests.keys() - before.tests.keys()),
        changed=changed,
        same=frozenset(both) - changed,
        shared_changed=bool(set(after.shared) - set(before.shared)) or _reordered(before.shared, after.shared),
        timed=timed_tests(new),
    )


def _reordered(before: list[str], after: list[str]) -> bool:
    """Say whether what both share runs in another order; imports may be sorted anew."""
    known = set(before)
    kept = [text for text in after if text in known and not text.startswith("Import")]
    left = set(after)
    return kept != [text for text in before if text in left and not text.startswith("Import")]


def _read(content: bytes) -> _TestFile | None:
    tree = parse_bare(content)
    if tree is None:
        return None
    found = _TestFile()
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    _read_body(tree.body, "", found)
    for name, node in classes.items():
        for inherited, text in _inherited(node, classes, frozenset({name})):
            found.tests.setdefault(f"{name}::{inherited}", text)
    return found


def _read_body(body: list[ast.stmt], prefix: str, found: _TestFile) -> None:
    for node in body:
        if isinstance(node, _Function) and node.name.startswith("test"):
            found.tests[f"{prefix}{node.name}"] = dump(node)
        elif isinstance(node, ast.ClassDef):
            _read_class(node, prefix, found)
        elif isinstance(node, ast.If | ast.Try) and _holds_tests(node):
            found.shared.append(prefix + (dump(node.test) if isinstance(node, ast.If) else "Try"))
            for inner in _bodies(node):
                _read_body(inner, prefix, found)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.shared += _imports(node, prefix)
        else:
            for part in ast.walk(node):
                if isinstance(part, ast.Import | ast.ImportFrom):
                    part.names.sort(key=lambda alias: (alias.name, alias.asname or ""))
            found.shared.append(prefix + dump(node) if prefix else dump(node))


def _imports(node: ast.Import | ast.ImportFrom, prefix: str) -> Iterator[str]:
    """Yield one text per imported name: how names are sorted and gathered into statements tells nothing."""
    place = f"{'.' * node.level}{node.module or ''}" if isinstance(node, ast.ImportFrom) else ""
    for alias in node.names:
        yield f"Import {prefix}{place} {alias.name} {alias.asname or ''}"


def _read_class(node: ast.ClassDef, prefix: str, found: _TestFile) -> None:
    heads = [dump(part) for part in (*node.bases, *node.keywords, *node.decorator_list)]
    if heads or not _holds_tests(node):
        found.shared.append(f"class {prefix}{node.name}({', '.join(heads)})")
    _read_body([member for member in node.body if not isinstance(member, ast.Pass)], f"{prefix}{node.name}::", found)


def _inherited(node: ast.ClassDef, classes: dict[str, ast.ClassDef], seen: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Yield the tests that a class has from classes of the same file, nearest first."""
    for base in node.bases:
        name = base.id if isinstance(base, ast.Name) else ""
        parent = classes.get(name)
        if parent is None or name in seen:
            continue
        for member in parent.body:
            if isinstance(member, _Function) and member.name.startswith("test"):
                yield member.name, dump(member)
        yield from _inherited(parent, classes, seen | {name})


def _bodies(node: ast.If | ast.Try) -> list[list[ast.stmt]]:
    if isinstance(node, ast.If):
        return [node.body, node.orelse]
    return [node.body, *(handler.body for handler in node.handlers), node.orelse, node.finalbody]


def _holds_tests(node: ast.stmt) -> bool:
    return any(isinstance(inner, _Function) and inner.name.startswith("test") for inner in ast.walk(node))
