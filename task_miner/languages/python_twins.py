"""Alters a Python test so that it has to fail, in ways that look like ordinary code. PURE, and always the same.

Strong ones change only lines that the patch adds. What is altered first: what checks expect, then the variables and
parameter sets behind it, then names that checks expect, then what they look at, then any other literal. Nothing is
drawn: variety comes from hashes of the place.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from envfarm.records.trust import Edit, TwinKind
from task_miner.languages.guards import ProposedTwin
from task_miner.languages.python_bindings import Binding
from task_miner.languages.python_checks import Check, Function, find_checks
from task_miner.languages.python_exceptions import exchange_exceptions
from task_miner.languages.python_inversions import fail_at_the_end, invert_checks
from task_miner.languages.python_lines import Source
from task_miner.languages.python_names import rename_expected
from task_miner.languages.python_syntax import dump, is_docstring, parse_python
from task_miner.languages.python_words import Atom, Pool, atoms_of, exchanged, pool_of, seed_of

MOST_STRONG = 6
MOST_WEAK = 2
_MOST_EXCEPTIONS = 3
_ROUNDS = 4


@dataclass(frozen=True)
class _Place:
    """Literals that are altered together: one, or one for each parameter set."""

    cells: tuple[tuple[Atom, ...], ...]
    sets: tuple[int, ...] = ()

    @property
    def start(self) -> int:
        return self.cells[0][0].start


@dataclass(frozen=True)
class _Test:
    """A test, and what is known of it."""

    source: Source
    name: str
    node: Function
    bindings: Mapping[str, Binding]
    checks: tuple[Check, ...]

    def atoms(self, nodes: Iterable[ast.AST]) -> tuple[Atom, ...]:
        """Return the words and numbers of some nodes that stand on new lines."""
        every = atoms_of(self.source, nodes)
        return tuple(atom for atom in every if self.source.line_of(atom.start) in self.source.added)

    def seed(self, *parts: object) -> int:
        return seed_of(self.source.path, self.name, *parts)


def propose_twins(
    source: Source, name: str, node: Function, bindings: Mapping[str, Binding]
) -> tuple[ProposedTwin, ...]:
    """Return the ways to alter a test, best first: at most 6 strong ones, then at most 2 weak ones."""
    test = _Test(source, name, node, bindings, find_checks(node))
    exceptions = _distinct(test, _exceptions(test), _MOST_EXCEPTIONS)
    literals = _distinct(test, _literals(test), MOST_STRONG)
    strong = _merged(literals, exceptions)
    inverted = _distinct(test, invert_checks(source, test.checks), MOST_WEAK)
    tails = _distinct(test, fail_at_the_end(source, node), 1)
    weak = [*inverted[: MOST_WEAK - len(tails)], *tails]
    return (*strong, *weak)


def _merged(literals: list[ProposedTwin], exceptions: list[ProposedTwin]) -> list[ProposedTwin]:
    """Return both kinds by turns, so that neither waits for the other to be tried in vain."""
    merged: list[ProposedTwin] = []
    for turn in range(MOST_STRONG):
        merged += [*literals[turn : turn + 1], *exceptions[turn : turn + 1]]
    return merged[:MOST_STRONG]


def _distinct(test: _Test, twins: Iterable[ProposedTwin], limit: int) -> list[ProposedTwin]:
    """Return the first twins that parse and run otherwise than the test and than each other."""
    seen = {_reading(test, ())}
    kept: list[ProposedTwin] = []
    for twin in twins:
        reading = _reading(test, twin.edits)
        if reading is None or reading in seen:
            continue
        seen.add(reading)
        kept.append(twin)
        if len(kept) == limit:
            break
    return kept


def _reading(test: _Test, edits: Sequence[Edit]) -> str | None:
    """Return what a test says to the interpreter once it is altered; None where that does not parse."""
    start, end = extent(test.source, test.node)
    content = test.source.content[start:end]
    for edit in sorted(edits, key=lambda found: found.start, reverse=True):
        content = content[: edit.start - start] + edit.text.encode() + content[edit.end - start :]
    tree = parse_python(b"if 1:\n" + content if content[:1] in {b" ", b"\t"} else content)
    return None if tree is None else dump(tree)


def extent(source: Source, node: Function) -> tuple[int, int]:
    """Return the offsets of a function's first line's first byte, decorators included, and of the end of its code."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return source.starts[first - 1], source.span(node)[1]


def _exceptions(test: _Test) -> Iterator[ProposedTwin]:
    exchanges = exchange_exceptions(test.source, test.node, test.name, test.bindings, each=_MOST_EXCEPTIONS)
    for exchange in exchanges:
        edits = tuple(
            Edit(path=test.source.path, start=start, end=end, text=name)
            for node, name in zip(exchange.nodes, exchange.names, strict=True)
            for start, end in [test.source.span(node)]
        )
        line = exchange.nodes[0].lineno
        yield ProposedTwin(kind=TwinKind.EXCEPTION, line=line, edits=edits, sets=exchange.sets)


def _renamed(test: _Test) -> Iterator[ProposedTwin]:
    for renaming in rename_expected(test.source, test.name, test.node, test.checks):
        start, end = test.source.span(renaming.node)
        edit = Edit(path=test.source.path, start=start, end=end, text=renaming.name)
        yield ProposedTwin(kind=TwinKind.LITERAL, line=renaming.node.lineno, edits=(edit,))


def _literals(test: _Test) -> Iterator[ProposedTwin]:
    """Yield twins with one literal altered, or one in each parameter set: tiers by turns until all are used up."""
    pool = _pool(test)
    made: set[tuple[int, str]] = set()
    tiers = [_twins_of_tier(test, tier, pool) for tier in _tiers(test)]
    shares = (3, 3, 2, 1, 1)
    for turn in range(2):
        if turn:
            yield from _renamed(test)
        for tier, share in zip(tiers, shares, strict=True):
            for _, twin in zip(range(share), tier, strict=False):
                key = (twin.edits[0].start, twin.edits[0].text)
                if key not in made:
                    made.add(key)
                    yield twin
    for tier in tiers:
        yield from tier


def _pool(test: _Test) -> Pool:
    body = [statement for statement in test.node.body if not is_docstring(statement)]
    expected = [side for check in test.checks for side in check.expected]
    behind = [cell for name in _names(expected) for cell in _cells(test, name)]
    columns = [cell for binding in test.bindings.values() if binding.parametrized for cell in binding.cells]
    return pool_of(
        atoms_of(test.source, [*expected, *behind]), atoms_of(test.source, [*expected, *behind, *body, *columns])
    )


def _cells(test: _Test, name: str) -> list[ast.expr]:
    binding = test.bindings.get(name)
    return binding.cells if binding else []


def _names(nodes: Iterable[ast.expr]) -> list[str]:
    found = [inner for node in nodes for inner in ast.walk(node) if isinstance(inner, ast.Name)]
    return list(dict.fromkeys(node.id for node in found))


def _tiers(test: _Test) -> list[list[_Place]]:
    """Return the literals that can be altered, best first."""
    expected = [check.expected for check in test.checks]
    actual = [check.actual for check in test.checks]
    names = _names(side for sides in expected for side in sides)
    looked_at = [name for name in _names(side for sides in actual for side in sides) if name not in names]
    body = [statement for statement in test.node.body if not is_docstring(statement)]
    return [
        [_Place((atoms,)) for sides in expected if (atoms := test.atoms(sides))],
        [_Place((atoms,)) for name in names for atoms in _assigned(test, name)],
        [place for name in names for place in _columns(test, name)],
        [_Place((atoms,)) for sides in actual if (atoms := test.atoms(sides))],
        [
            *(_Place((atoms,)) for name in looked_at for atoms in _assigned(test, name)),
            *(place for name in looked_at for place in _columns(test, name)),
            *(_Place((atoms,)) for statement in body if (atoms := test.atoms([statement]))),
        ],
    ]


def _assigned(test: _Test, name: str) -> Iterator[tuple[Atom, ...]]:
    binding = test.bindings.get(name)
    if binding is not None and not binding.parametrized:
        yield from (atoms for cell in binding.cells if (atoms := test.atoms([cell])))


def _columns(test: _Test, name: str) -> Iterator[_Place]:
    binding = test.bindings.get(name)
    if binding is not None and binding.parametrized:
        found = [(number, atoms) for number, cell in enumerate(binding.cells) if (atoms := test.atoms([cell]))]
        if found:
            yield _Place(tuple(atoms for _, atoms in found), tuple(number for number, _ in found))


def _twins_of_tier(test: _Test, places: list[_Place], pool: Pool) -> Iterator[ProposedTwin]:
    """Yield twins of some places: each place once, what the base cannot know first, then each by another word."""
    order = sorted(places, key=lambda place: (not _fresh(test, place), test.seed(place.start)))
    for turn in range(_ROUNDS):
        for place in order:
            if turn < max(len(cell) for cell in place.cells):
                yield _exchange(test, place, turn, pool)


def _fresh(test: _Test, place: _Place) -> bool:
    return any(test.source.is_fresh(test.source.line_of(atom.start)) for cell in place.cells for atom in cell)


def _exchange(test: _Test, place: _Place, turn: int, pool: Pool) -> ProposedTwin:
    edits: list[Edit] = []
    for cell in place.cells:
        atoms = sorted(cell, key=lambda atom: (atom.kind.value >= _PLAIN_KINDS, test.seed(atom.start, "first")))
        atom = atoms[turn % len(atoms)]
        text = exchanged(atom, pool, test.seed(atom.start, turn))
        edits.append(Edit(path=test.source.path, start=atom.start, end=atom.end, text=text))
    line = test.source.line_of(edits[0].start)
    return ProposedTwin(kind=TwinKind.LITERAL, line=line, edits=tuple(edits), sets=place.sets)


_PLAIN_KINDS = 6
"""Kinds below are words and numbers."""
