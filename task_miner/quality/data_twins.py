"""Alters data files that tests are made of, for deciding tests that no source file spells out. PURE.

A test whose input and expectation stand in a text or JSON file has no literal of its own. Exchanging a word or number
of a line that the patch adds there makes such a test fail as an altered literal does. Which tests a line belongs to is
not known from outside: each alteration is tried alone, and belongs to the tests that it makes fail.
"""

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from envfarm.records.test_report import TestOutcome, TestReport
from envfarm.records.trust import Edit, ProtectedTest, Twin, TwinKind
from envfarm_verifiers.mixed_plan import prefix_of
from task_miner.languages.python_lines import added_lines

MOST_TRIED = 8
"""Alterations that are tried, each in a run of its own."""
_ENOUGH = 2
_LARGEST_FILE = 1 << 20
_WORD = re.compile(r"(?<!\\)\b(?:[A-Za-z]{2,}|\d+)\b")
_ASSERTIONS = frozenset({"AssertionError", "Failed"})


@dataclass(frozen=True)
class _Line:
    number: int
    start: int
    words: tuple[re.Match[str], ...]


def propose_alterations(path: str, old: bytes | None, new: bytes) -> tuple[Edit, ...]:
    """Return ways to alter a data file, best first: one word or number of a line that the patch adds.

    What a file tells last in a block of new lines is most often what is expected, so each block's last line with words
    comes first, then each one's line before it, and so on.

    Args:
        path: Path of the file in the workspace.
        old: The file on the base; None where the patch adds it.
        new: The fixed file; one that is no UTF-8, or is large, has none.
    """
    if len(new) > _LARGEST_FILE:
        return ()
    try:
        texts = [line.decode() for line in new.splitlines(keepends=True)]
    except UnicodeDecodeError:
        return ()
    added = added_lines((old or b"").splitlines(), new.splitlines())
    lines = _lines(texts, added)
    pool = sorted({word[0] for line in lines for word in line.words})
    blocks = list(_blocks(lines))
    deepest = max((len(block) for block in blocks), default=0)
    order = [block[-1 - turn] for turn in range(deepest) for block in blocks if turn < len(block)]
    return tuple(_altered(path, line, pool) for line in order)


def _lines(texts: Sequence[str], added: frozenset[int]) -> list[_Line]:
    lines, start = [], 0
    for number, text in enumerate(texts, start=1):
        if number in added and text.strip():
            lines.append(_Line(number, start, tuple(_WORD.finditer(text))))
        start += len(text.encode())
    return lines


def _blocks(lines: Sequence[_Line]) -> Iterable[list[_Line]]:
    """Yield the lines with words of each run of lines without a gap between them."""
    for _, block in groupby(enumerate(lines), key=lambda entry: entry[1].number - entry[0]):
        yield [line for _, line in block if line.words]


def _altered(path: str, line: _Line, pool: Sequence[str]) -> Edit:
    word = line.words[-1]
    alike = [other for other in pool if other.isdigit() == word[0].isdigit() and other.lower() != word[0].lower()]
    seed = zlib.crc32(f"{path}\0{line.number}".encode())
    text = alike[seed % len(alike)] if alike else _respelled(word[0])
    before = len(word.string[: word.start()].encode())
    start = line.start + before
    return Edit(path=path, start=start, end=start + len(word[0].encode()), text=text)


def _respelled(word: str) -> str:
    if word.isdigit():
        return str(int(word) + 1)
    return word[:-1] + ("a" if word[-1] != "a" else "b")


def failing_tests(edit: Edit, wanted: frozenset[str], plain: TestReport, altered: TestReport) -> Twin | None:
    """Return the alteration as a twin of the wanted tests that it makes fail by assertion; None where it is none.

    Args:
        edit: The alteration.
        wanted: The tests that it may make fail, which pass without it.
        plain: A run without it.
        altered: A run with it; every other outcome, and what is collected, have to be the same.
    """
    if not altered.session_ended or altered.collected != plain.collected:
        return None
    changed = [name for name in plain.collected if altered.outcomes.get(name) != plain.outcomes.get(name)]
    failures = {}
    for name in changed:
        detail = altered.details.get(name)
        failed = altered.outcomes.get(name) is TestOutcome.FAILED
        if name not in wanted or not failed or detail is None or detail.error not in _ASSERTIONS:
            return None
        failures[name] = detail.error
    if not failures:
        return None
    return Twin(kind=TwinKind.LITERAL, line=0, edits=(edit,), strong=False, failures=failures)


def group_tests(twins: Iterable[Twin], collected: Sequence[str]) -> tuple[ProtectedTest, ...]:
    """Return the tests that the twins protect: those that an alteration makes fail together are one.

    A twin that shares some but not all of its tests with an earlier one is left out, and so is one whose test has
    enough.
    """
    grouped: dict[frozenset[str], list[Twin]] = {}
    for twin in twins:
        names = frozenset(twin.failures)
        if any(names & other and names != other for other in grouped):
            continue
        kept = grouped.setdefault(names, [])
        if len(kept) < _ENOUGH:
            kept.append(twin)
    return tuple(_protected(names, tuple(kept), collected) for names, kept in grouped.items())


def _protected(names: frozenset[str], twins: tuple[Twin, ...], collected: Sequence[str]) -> ProtectedTest:
    prefixes = {prefix_of(name) for name in names}
    edit = twins[0].edits[0]
    return ProtectedTest(
        path=edit.path,
        name=f"data at byte {edit.start}",
        ids=tuple(name for name in collected if prefix_of(name) in prefixes),
        fail_to_pass=tuple(name for name in collected if name in names),
        twins=twins,
    )


def data_files(reference: Mapping[str, bytes], base: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the paths of files that tests may be made of and that the patch changes, in order."""
    changed = (path for path, content in reference.items() if base.get(path) != content)
    return tuple(sorted(path for path in changed if not path.endswith((".py", ".pyi", ".toml", ".cfg", ".ini"))))
