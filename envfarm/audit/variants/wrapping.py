"""Puts a decorator of the module's own nearest to `def`, or around functions once the module is there. PURE.

The text of a decorator has names with one underscore only, all of which get others where the module has them.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from envfarm.audit.variants.functions import can_be_wrapped
from envfarm.audit.variants.maker import Rewrite, put_around
from envfarm.audit.variants.source import Edit, Place, SourceFile

_OWN_NAME = re.compile(r"(?<![\w.])_[a-zA-Z]\w*")


@dataclass(frozen=True)
class Decorator:
    """A decorator as text.

    Attributes:
        name: Its name in the text.
        text: Imports, classes and functions that the module begins with.
        fits: Whether it changes nothing that ordinary callers of a function notice, beyond what is asked anyway.
    """

    name: str
    text: str = field(repr=False)
    fits: Callable[[SourceFile, Place], bool] = field(repr=False, default=lambda _source, _place: True)


def by_decorator(decorator: Decorator) -> Rewrite:
    """Return the rewriting that decorates every function that can be wrapped."""

    def rewrite(source: SourceFile, places: Sequence[Place]) -> str | None:
        text, names = _own_text(source, decorator.text)
        edits = []
        for place in places:
            if can_be_wrapped(place) and decorator.fits(source, place):
                start = source.header(place.node)
                edits.append(Edit(start, start, f"@{names[decorator.name]}\n{source.before(start)}"))
        return put_around(source.splice(edits), text) if edits else None

    return rewrite


def by_patching(decorator: Decorator) -> Rewrite:
    """Return the rewriting in which the module wraps its own functions and methods at its end, in `sys.modules`."""

    def rewrite(source: SourceFile, places: Sequence[Place]) -> str | None:
        text, names = _own_text(source, decorator.text)
        lines = [_patch_line(place, names) for place in places if _can_be_patched(source, place)]
        return put_around(source.text, text, "\n\n" + "\n".join(lines) + "\n") if lines else None

    return rewrite


def _own_text(source: SourceFile, text: str) -> tuple[str, dict[str, str]]:
    """Return a decorator's text with names that the module does not have, and those names by the old ones."""
    names: dict[str, str] = {}
    for old in dict.fromkeys(_OWN_NAME.findall(text)):
        names[old] = source.free_name(old, tuple(names.values()))
    return _OWN_NAME.sub(lambda match: names[match[0]], text).strip("\n") + "\n\n\n", names


def _patch_line(place: Place, names: dict[str, str]) -> str:
    name, wrapper = place.node.name, names["_traced"]
    if place.owners:
        owner = place.owners[0].name
        return f'setattr({owner}, "{name}", {wrapper}({owner}.__dict__["{name}"]))'
    module = f"{names['_sys']}.modules[__name__]"
    return f'setattr({module}, "{name}", {wrapper}(getattr({module}, "{name}")))'


def _can_be_patched(source: SourceFile, place: Place) -> bool:
    """Return whether an undecorated function of the module, or of a class at its top, is known by one name only."""
    holder: Sequence[ast.stmt] = source.tree.body
    if place.owners:
        owner = place.owners[0]
        if len(place.owners) > 1 or owner not in holder or owner.decorator_list or owner.keywords:
            return False
        if _bound(source.tree.body)[owner.name] != 1:
            return False
        holder = owner.body
    once = place.node in holder and _bound(holder, or_read=True)[place.node.name] == 1
    implicit = place.node.name in {"__new__", "__init_subclass__", "__class_getitem__"}
    is_private = place.node.name.startswith("__") and not place.node.name.endswith("__")
    plain = not (place.node.decorator_list or implicit or (place.owners and is_private))
    return once and plain and can_be_wrapped(place) and "sys.modules" not in source.text


def _bound(block: Sequence[ast.stmt], *, or_read: bool = False) -> Counter[str]:
    """Return how often each name is bound, deleted or read in a block, and within it outside functions and classes."""
    found: Counter[str] = Counter()
    waiting: list[ast.AST] = list(block)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] += 1
            continue
        if isinstance(node, ast.Name) and (or_read or not isinstance(node.ctx, ast.Load)):
            found[node.id] += 1
        if isinstance(node, ast.alias):
            found[node.asname or node.name.split(".")[0]] += 1
        waiting += ast.iter_child_nodes(node)
    return found
