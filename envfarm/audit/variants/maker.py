"""Makes a diff of the true fix and one rewriting of the functions that it touches. PURE."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from envfarm.audit.carrier import run_around
from envfarm.audit.cheat import CheatTarget, Maker
from envfarm.audit.variants.source import OLDEST, Place, SourceFile, compiles, parse, read_source

Rewrite = Callable[[SourceFile, Sequence[Place]], str | None]
"""Returns a module's new text, in which these functions are written differently; None where nothing is."""

_NOT_IMPORTED = frozenset({"setup.py", "conftest.py"})


@dataclass(frozen=True)
class TouchedModule:
    """A module as the true fix leaves it, and the functions that a variant may write differently."""

    path: str
    source: SourceFile
    places: tuple[Place, ...]


def make_by(rewrite: Rewrite) -> Maker:
    """Return the maker of a variant that rewrites each touched module in one way."""

    def make(target: CheatTarget) -> bytes | None:
        changes: dict[str, bytes | None] = {}
        for module in touched_modules(target):
            content = _rewritten(module, rewrite)
            if content is not None:
                changes[module.path] = content
        return target.beside_the_fix().diff(changes) if changes else None

    return make


def touched_modules(target: CheatTarget) -> tuple[TouchedModule, ...]:
    """Return the modules that the fix changes, with the functions that differ; with all where none does."""
    modules = []
    for path in sorted(target.sources):
        content = target.fixed.get(path)
        source = read_source(content) if path.endswith(".py") and content is not None else None
        if source is not None and PurePosixPath(path).name not in _NOT_IMPORTED:
            places = _differing(source, target.sources[path])
            modules.append(TouchedModule(path=path, source=source, places=places))
    if any(module.places for module in modules):
        return tuple(module for module in modules if module.places)
    return tuple(replace(module, places=module.source.places) for module in modules)


def put_around(text: str, first: str, last: str = "") -> str:
    """Return a module's text with code before and after its own; comments at its head stay there."""
    lines = text.split("\n")
    count = 0
    while count < len(lines) - 1 and (lines[count].startswith("#") or not lines[count].strip()):
        count += 1
    head, rest = "".join(f"{line}\n" for line in lines[:count]), "\n".join(lines[count:])
    return head + run_around(rest.encode(), first.encode(), last.encode()).decode()


def _differing(source: SourceFile, base: bytes | None) -> tuple[Place, ...]:
    """Return the functions of the fixed module that stand in no such words under their names in the base."""
    old = read_source(base) if base is not None else None
    known: defaultdict[str, set[str]] = defaultdict(set)
    for place in old.places if old is not None else ():
        known[place.name].add(old.lines_of(place.node) if old is not None else "")
    return tuple(place for place in source.places if source.lines_of(place.node) not in known[place.name])


def _rewritten(module: TouchedModule, rewrite: Rewrite) -> bytes | None:
    source = module.source
    text = rewrite(source, module.places)
    if text is None or text == source.text or not compiles(text):
        return None
    if source.is_old_syntax and parse(text, version=OLDEST) is None:
        return None
    return source.encode(text)
