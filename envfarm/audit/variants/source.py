"""A module as text and tree, its functions, and edits of it that leave the rest byte for byte. PURE.

Offsets count bytes of the text in UTF-8, as those of `ast` do, whatever the file's own encoding is. Covered: CRLF,
byte order marks, declared encodings. Not covered: files that mix line ends, and syntax that this interpreter cannot
read; they are no source at all here.
"""

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate

from envfarm.python_trees import parse_tree

Function = ast.FunctionDef | ast.AsyncFunctionDef
OLDEST = (3, 8)
_BROKEN = (SyntaxError, ValueError, RecursionError, MemoryError, LookupError)


@dataclass(frozen=True)
class Place:
    """A function and where it stands; functions within functions have none of their own.

    Attributes:
        node: The function.
        name: Its qualified name.
        owners: The classes around it, the outermost first.
        top: The statement of the module that holds it.
    """

    node: Function = field(repr=False)
    name: str
    owners: tuple[ast.ClassDef, ...] = field(repr=False)
    top: ast.stmt = field(repr=False)


@dataclass(frozen=True)
class Edit:
    """Text in place of what stands between two offsets."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class SourceFile:
    """A module that can be edited.

    Attributes:
        text: Its text, with lines that end with a line feed.
        tree: The same as a tree.
        encoding: How its bytes are read.
        line_end: What its lines end with.
    """

    text: str = field(repr=False)
    tree: ast.Module = field(repr=False)
    encoding: str = "utf-8"
    line_end: str = "\n"

    @cached_property
    def data(self) -> bytes:
        """The text in UTF-8."""
        return self.text.encode()

    @cached_property
    def words(self) -> frozenset[str]:
        """Every word of the text: a name that is none of them is free."""
        return frozenset(re.findall(r"\w+", self.text))

    @cached_property
    def is_old_syntax(self) -> bool:
        """Whether the oldest interpreters that tasks have can read it."""
        return parse(self.text, version=OLDEST) is not None

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The functions that stand in the module or in its classes."""
        return tuple(place for top in self.tree.body for place in _places(top, top, ()))

    @cached_property
    def _line_starts(self) -> list[int]:
        lengths = (len(line) + 1 for line in self.data.split(b"\n"))
        return [0, *accumulate(lengths)]

    def start(self, node: ast.stmt) -> int:
        """Return where a statement starts, with its decorators."""
        decorators = node.decorator_list if isinstance(node, Function | ast.ClassDef) else []
        line = min([node.lineno, *(decorator.lineno for decorator in decorators)])
        return self._line_starts[line - 1] + node.col_offset

    def end(self, node: ast.stmt) -> int:
        """Return where a statement ends."""
        return self._line_starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)

    def header(self, node: Function) -> int:
        """Return where the word `def` of a function stands, or `async`."""
        return self._line_starts[node.lineno - 1] + node.col_offset

    def before(self, offset: int) -> str:
        """Return what stands before an offset in its line."""
        return self.data[self.data.rfind(b"\n", 0, offset) + 1 : offset].decode()

    def lines_of(self, node: Function) -> str:
        """Return the whole lines of a function, with its decorators."""
        start = self.data.rfind(b"\n", 0, self.start(node)) + 1
        return self.data[start : self.end(node)].decode()

    def splice(self, edits: Iterable[Edit]) -> str:
        """Return the text with these edits made; none of them may lie within another."""
        data = self.data
        for edit in sorted(edits, key=lambda edit: (edit.start, edit.end), reverse=True):
            data = data[: edit.start] + edit.text.encode() + data[edit.end :]
        return data.decode()

    def encode(self, text: str) -> bytes | None:
        """Return another text as bytes of this file; None where its encoding cannot hold them."""
        try:
            return text.replace("\n", self.line_end).encode(self.encoding)
        except UnicodeEncodeError:
            return None

    def free_name(self, wanted: str, taken: Sequence[str] = ()) -> str:
        """Return the wanted name, with underscores after it where the module has that word."""
        while wanted in self.words or wanted in taken:
            wanted += "_"
        return wanted


@lru_cache(maxsize=32)
def read_source(content: bytes) -> SourceFile | None:
    """Return a file as a source, the same again for the same bytes; None where it cannot be read as one."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding)
    except _BROKEN:
        return None
    pairs = text.count("\r\n")
    if text.count("\r") != pairs or pairs not in {0, text.count("\n")}:
        return None
    text = text.replace("\r\n", "\n")
    tree = parse(text)
    if tree is None:
        return None
    return SourceFile(text=text, tree=tree, encoding=encoding, line_end="\r\n" if pairs else "\n")


def parse(text: str, *, version: tuple[int, int] | None = None) -> ast.Module | None:
    """Return the tree of a text, as an interpreter of this version has it; None where it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return parse_tree(text, feature_version=version)
        except _BROKEN:
            return None


def compiles(text: str) -> bool:
    """Return whether this interpreter takes a text for a module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(text, "module.py", "exec", dont_inherit=True)
        except _BROKEN:
            return False
    return True


def _places(node: ast.AST, top: ast.stmt, owners: tuple[ast.ClassDef, ...]) -> Iterator[Place]:
    if isinstance(node, Function):
        yield Place(node=node, name=".".join([*(owner.name for owner in owners), node.name]), owners=owners, top=top)
        return
    if isinstance(node, ast.ClassDef):
        owners = (*owners, node)
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.stmt | ast.ExceptHandler):
            yield from _places(inner, top, owners)
