"""The words and numbers of a Python test's literals, and which other of the same test each is exchanged for. PURE.

What is exchanged has to look like ordinary code: another word of the same test, in the same quotes, is as likely as the
right one for whoever does not know the answer. Left alone: escapes, placeholders, and what an f-string computes.
"""

import ast
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from task_miner.languages.python_lines import Source


class Kind(Enum):
    """What can take the place of what; the value says which is altered first."""

    WORD = 0
    DIGITS = 1
    """A number in a text."""
    BYTE_WORD = 2
    BYTE_DIGITS = 3
    INTEGER = 4
    FLOAT = 5
    BOOLEAN = 6
    SIGN = 7
    """Neither letter nor digit, of a text that has none."""
    EMPTY = 8
    """A literal that holds nothing."""
    NOTHING = 9


@dataclass(frozen=True)
class Atom:
    """One word or number of a literal: its bytes, and what it reads."""

    start: int
    end: int
    kind: Kind
    text: str


@dataclass(frozen=True)
class Pool:
    """What a test says, by kind: in its expected values, and anywhere."""

    expected: Mapping[Kind, Sequence[str]]
    anywhere: Mapping[Kind, Sequence[str]]


_PIECE = re.compile(r"#[^\r\n]*|([A-Za-z]{0,2})('''|\"\"\"|'|\")((?:\\.|(?!\2).)*)\2", re.DOTALL)
_ESCAPE = r"\\(?:N\{[^}]*\}|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[0-7]{1,3}|\r\n|.)"
_PART = re.compile(
    rf"(?P<skipped>{_ESCAPE}|%\(\w*\)\w|%\w|\{{\w*\}})|(?P<word>[^\W\d]\w*)|(?P<digits>\d+)|(?P<sign>[^\s\w\"'\\{{}}%])",
    re.DOTALL,
)
_SIGNS = {",": ";", ";": ",", ".": ",", "-": "_", "_": "-", "/": "-", ":": ";", "+": "-", "*": "+", "<": ">", ">": "<"}
_EMPTY = frozenset({"[]", "{}", "()"})
_FALLBACK_LETTER = "e"


def seed_of(*parts: object) -> int:
    """Return a number that looks random and is always the same for the same parts."""
    return zlib.crc32("\0".join(map(str, parts)).encode(errors="surrogatepass"))


def atoms_of(source: Source, nodes: Iterable[ast.AST]) -> list[Atom]:
    """Return the words and numbers of the literals in some nodes, in the order of the file."""
    found: dict[int, Atom] = {}
    for node in nodes:
        for atom in _atoms(source, node):
            found.setdefault(atom.start, atom)
    return [found[start] for start in sorted(found)]


def pool_of(expected: Iterable[Atom], anywhere: Iterable[Atom]) -> Pool:
    """Return what can be exchanged for one another."""
    return Pool(expected=_by_kind(expected), anywhere=_by_kind(anywhere))


def _by_kind(atoms: Iterable[Atom]) -> dict[Kind, list[str]]:
    texts: dict[Kind, list[str]] = {}
    for atom in atoms:
        known = texts.setdefault(atom.kind, [])
        if atom.text not in known:
            known.append(atom.text)
    return texts


def _atoms(source: Source, node: ast.AST) -> Iterator[Atom]:
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)):
        yield from _of_text(source, node)
    elif isinstance(node, ast.Constant):
        kind = _constant_kind(node.value)
        if kind is not None:
            start, end = source.span(node)
            yield Atom(start, end, kind, source.text(start, end))
    elif isinstance(node, ast.List | ast.Tuple | ast.Dict) and _holds_nothing(node):
        start, end = source.span(node)
        if source.text(start, end) in _EMPTY:
            yield Atom(start, end, Kind.EMPTY, source.text(start, end))
    else:
        for child in ast.iter_child_nodes(node):
            yield from _atoms(source, child)


def _holds_nothing(node: ast.List | ast.Tuple | ast.Dict) -> bool:
    return not (node.keys if isinstance(node, ast.Dict) else node.elts)


def _constant_kind(value: object) -> Kind | None:
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if isinstance(value, int):
        return Kind.INTEGER
    if isinstance(value, float):
        return Kind.FLOAT
    return Kind.NOTHING if value is None else None


def _of_text(source: Source, node: ast.expr) -> Iterator[Atom]:
    start, end = source.span(node)
    text = source.text(start, end)
    said: list[Atom] = []
    signs: list[Atom] = []
    for piece in _PIECE.finditer(text):
        if piece[2] is None:
            continue
        in_bytes, computes = "b" in piece[1].lower(), "f" in piece[1].lower()
        body = _without_computed(piece[3]) if computes else piece[3]
        place = start + len(text[: piece.start(3)].encode())
        if not body:
            said.append(Atom(place, place, Kind.EMPTY, 'b""' if in_bytes else '""'))
        for part in _PART.finditer(body):
            kind = _part_kind(part, in_bytes=in_bytes)
            if kind is not None:
                first = place + len(body[: part.start()].encode())
                found = Atom(first, first + len(part[0].encode()), kind, part[0])
                (signs if kind is Kind.SIGN else said).append(found)
    words = [atom for atom in said if atom.kind is not Kind.EMPTY]
    yield from words or signs[:1] or said[:1]


def _part_kind(part: re.Match[str], *, in_bytes: bool) -> Kind | None:
    if part["skipped"]:
        return None
    if part["sign"]:
        return Kind.SIGN
    if part["word"]:
        return Kind.BYTE_WORD if in_bytes else Kind.WORD
    return Kind.BYTE_DIGITS if in_bytes else Kind.DIGITS


def _without_computed(body: str) -> str:
    """Return the body of an f-string with blanks for what it computes, as long in bytes."""
    kept: list[str] = []
    depth = 0
    for part in re.findall(r"\{\{|\}\}|.", body, re.DOTALL):
        if depth or part in {"{", "{{", "}}"}:
            depth += part.count("{") - part.count("}") if depth or part == "{" else 0
            kept.append(" " * len(part.encode()))
        else:
            kept.append(part)
    return "".join(kept)


def exchanged(atom: Atom, pool: Pool, seed: int) -> str:
    """Return what takes an atom's place: another of the same test, or else one made from it."""
    for texts in (pool.expected, pool.anywhere):
        others = [text for text in texts.get(atom.kind, ()) if _differ(atom.kind, text, atom.text)]
        alike = [text for text in others if _shape(text) == _shape(atom.text)] or others
        if alike and atom.kind not in {Kind.SIGN, Kind.EMPTY, Kind.NOTHING}:
            return alike[seed % len(alike)]
    return _made(atom, pool, seed)


def _differ(kind: Kind, one: str, other: str) -> bool:
    if kind in {Kind.DIGITS, Kind.BYTE_DIGITS}:
        return int(one) != int(other)
    if kind in {Kind.INTEGER, Kind.FLOAT, Kind.BOOLEAN}:
        different: bool = ast.literal_eval(one) != ast.literal_eval(other)
        return different
    return one.casefold() != other.casefold()


def _shape(text: str) -> tuple[bool, bool, bool]:
    return text[:1].isupper(), text.isupper() and len(text) > 1, "_" in text


def _made(atom: Atom, pool: Pool, seed: int) -> str:
    if atom.kind is Kind.BOOLEAN:
        return "False" if atom.text == "True" else "True"
    if atom.kind is Kind.NOTHING:
        return ("False", "True")[seed % 2]
    if atom.kind is Kind.INTEGER:
        return _next_integer(atom.text)
    if atom.kind is Kind.FLOAT:
        return repr(float(atom.text.replace("_", "")) + 1)
    if atom.kind is Kind.SIGN:
        return _SIGNS.get(atom.text, "-")
    if atom.kind is Kind.EMPTY:
        return _filled(atom.text, pool, seed)
    if atom.kind in {Kind.DIGITS, Kind.BYTE_DIGITS}:
        return f"{atom.text[:-1]}{(int(atom.text[-1]) + 1) % 10}"
    return _respelled(atom.text, seed)


def _next_integer(text: str) -> str:
    value = int(text, 0) + 1
    return {"0x": hex, "0o": oct, "0b": bin}.get(text[:2].lower(), str)(value)


def _respelled(word: str, seed: int) -> str:
    places = [place for place, letter in enumerate(word) if letter.isascii() and letter.isalpha()]
    if not places:
        return _FALLBACK_LETTER
    place = places[seed % len(places)]
    first = "a" if word[place].islower() else "A"
    letter = chr(ord(first) + (ord(word[place]) - ord(first) + 1) % 26)
    return word[:place] + letter + word[place + 1 :]


def _filled(text: str, pool: Pool, seed: int) -> str:
    numbers = pool.anywhere.get(Kind.INTEGER) or ["1"]
    number = numbers[seed % len(numbers)]
    if text == "[]":
        return f"[{number}]"
    if text == "()":
        return f"({number},)"
    if text == "{}":
        return f"{{{number}: {number}}}"
    words = pool.anywhere.get(Kind.BYTE_WORD if text.startswith("b") else Kind.WORD) or ["a"]
    return words[seed % len(words)]
