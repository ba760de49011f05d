"""Takes a unified diff in git's form apart into one section per file. PURE.

Names come with or without prefixes (``a/`` and ``b/``, git's mnemonic ones, none), bare or quoted, with spaces.

Not covered: combined diffs, ed scripts, context diffs; none of them can be applied by git either.
"""

import re
from dataclasses import dataclass, replace

from envfarm.grading.patch_lines import PatchError, PatchLines
from envfarm.grading.patch_section import Content, PatchSection
from envfarm.grading.path_quoting import read_quoted, to_text

_INDEX = re.compile(rb"index ([0-9a-f]{4,64}\.\.[0-9a-f]{4,64})(?: ([0-7]{6}))?$")
_MODE = re.compile(rb"[0-7]{6}$")
_NAME_WORDS = ("rename from", "rename to", "copy from", "copy to")
_MODE_WORDS = ("old mode", "new mode", "deleted file mode", "new file mode")
_WORDS = (*_NAME_WORDS, *_MODE_WORDS, "similarity index", "dissimilarity index")
_MOST_SPLITS = 1000
"""Spaces of a header line that are tried as the end of its first name: a guess."""

_Names = tuple[str | None, str | None]


def read_sections(patch: bytes) -> tuple[PatchSection, ...]:
    """Return what the diff does, file by file, in its order. Text between sections is skipped.

    Raises:
        PatchError: It is malformed, or holds text but nothing that could be a diff.
    """
    if not patch.strip():
        return ()
    lines = PatchLines(patch)
    sections = []
    while lines.more:
        if lines.line.startswith(b"diff --git "):
            sections.append(_read_git_section(lines))
        elif lines.at_plain_header:
            sections.append(_read_plain_section(lines))
        elif lines.at_hunk:
            lines.fail("a hunk without the name of its file before it")
        elif lines.line.startswith((b"diff --cc ", b"diff --combined ")):
            lines.fail("a combined diff cannot be applied")
        else:
            lines.take()
    if not sections:
        message = "it holds no diff: no line starts with 'diff --git ' or with '--- '"
        raise PatchError(message)
    return tuple(sections)


@dataclass
class _Header:
    """What stands between ``diff --git`` and the content."""

    found: dict[str, str]

    @property
    def operation(self) -> str:
        """Rename, copy or empty."""
        return next((name for name in ("rename", "copy") if self.found.keys() & {f"{name} from", f"{name} to"}), "")

    @property
    def names(self) -> _Names:
        """Names of a rename or copy: they carry no prefix."""
        return self.found.get(f"{self.operation} from"), self.found.get(f"{self.operation} to")

    def mode(self, *words: str) -> str:
        """Return the first of the modes that is told, else the index line's."""
        return next((self.found[word] for word in (*words, "mode") if word in self.found), "")


def _read_git_section(lines: PatchLines) -> PatchSection:
    pair = _read_name_pair(lines.header.removeprefix(b"diff --git "))
    lines.take()
    header = _read_header(lines)
    created, deleted = "new file mode" in header.found, "deleted file mode" in header.found
    names: _Names = pair or (None, None)
    if lines.line.startswith(b"--- "):
        read = _read_marked_names(lines)
        _check_names(lines, read, pair, header.names)
        created, deleted = created or read[0] is None, deleted or read[1] is None
        names = pair or read
    operation = header.operation
    if operation and None in header.names:
        lines.fail(f"a {operation} names only one of its two files")
    if created + deleted + bool(operation) > 1 or ("old mode" in header.found) != ("new mode" in header.found):
        lines.fail("what is to become of the file is contradictory")
    old_path, new_path = header.names if operation else (_strip_prefix(lines, *names),) * 2
    section = PatchSection(
        old_path=None if created else old_path,
        new_path=None if deleted else new_path,
        old_mode=header.mode("old mode", "deleted file mode"),
        new_mode=header.mode("new mode", "new file mode"),
        operation=operation,
        index=header.found.get("index", ""),
    )
    return _read_content(lines, section)


def _read_plain_section(lines: PatchLines) -> PatchSection:
    old, new = _read_marked_names(lines)
    path = _strip_prefix(lines, old, new)
    old_path, new_path = None if old is None else path, None if new is None else path
    return _read_content(lines, PatchSection(old_path=old_path, new_path=new_path, git_header=False))


def _read_content(lines: PatchLines, section: PatchSection) -> PatchSection:
    if lines.header == b"GIT binary patch":
        return replace(section, content=Content.BINARY, body=lines.take_binary())
    if lines.header.startswith((b"Binary files ", b"Files ")) and lines.header.endswith(b" differ"):
        lines.take()
        return replace(section, content=Content.BINARY_WITHOUT_DATA)
    if lines.at_hunk:
        return replace(section, content=Content.TEXT, body=lines.take_hunks())
    return section


def _read_header(lines: PatchLines) -> _Header:
    found: dict[str, str] = {}
    while lines.more:
        line = lines.header
        index = _INDEX.match(line)
        word = next((word for word in _WORDS if line.startswith(word.encode() + b" ")), None)
        if index is not None:
            found["index"] = to_text(index.group(1))
            if index.group(2) is not None:
                found["mode"] = to_text(index.group(2))
        elif word is None:
            break
        else:
            value = line[len(word) + 1 :]
            if word in _MODE_WORDS and not _MODE.match(value):
                lines.fail(f"{to_text(value[:20])!r} is no file mode")
            found[word] = _read_name(lines, value) if word in _NAME_WORDS else to_text(value)
        lines.take()
    return _Header(found)


def _read_name(lines: PatchLines, value: bytes) -> str:
    if not value.startswith(b'"'):
        return to_text(value.split(b"\t", 1)[0])
    quoted = read_quoted(value)
    if quoted is None:
        lines.fail("a quoted name without its end")
    return quoted[0]


def _read_name_pair(rest: bytes) -> tuple[str, str] | None:
    """Return both names of a ``diff --git`` line, prefixes included; None where they cannot be told apart."""
    first = read_quoted(rest) if rest.startswith(b'"') else None
    if first is not None:
        second = _read_second(first[1].removeprefix(b" "))
        return None if second is None else (first[0], second)
    spaces = [match.start() for match in re.finditer(rb" ", rest)]
    for at in sorted(spaces, key=lambda space: abs(space - len(rest) / 2))[:_MOST_SPLITS]:
        old, new = to_text(rest[:at]), _read_second(rest[at + 1 :])
        if new is not None and _common_path(old, new) is not None:
            return old, new
    return None


def _read_second(data: bytes) -> str | None:
    if not data.startswith(b'"'):
        return to_text(data)
    quoted = read_quoted(data)
    return None if quoted is None else quoted[0]


def _read_marked_names(lines: PatchLines) -> _Names:
    """Read ``---`` and ``+++``, prefixes included; None for /dev/null."""
    read: list[str | None] = []
    for mark in (b"--- ", b"+++ "):
        if not lines.line.startswith(mark):
            lines.fail(f"expected a line that starts with {to_text(mark)!r}")
        name = _read_name(lines, lines.header[len(mark) :])
        read.append(None if name.rstrip(" ") == "/dev/null" else name)
        lines.take()
    if read == [None, None]:
        lines.fail("a section that names no file")
    return read[0], read[1]


def _check_names(lines: PatchLines, read: _Names, pair: tuple[str, str] | None, moved: _Names) -> None:
    """Refuse ``---`` and ``+++`` that name other files than git's own header above them."""
    for name, expected, plain in zip(read, pair or (None, None), moved, strict=True):
        if name is None:
            continue
        if plain is not None and plain not in {name, name.partition("/")[2]}:
            lines.fail(f"one section names two files, {plain!r} and {name!r}")
        if plain is None and expected not in {name, None}:
            lines.fail(f"one section names two files, {expected!r} and {name!r}")


def _strip_prefix(lines: PatchLines, old: str | None, new: str | None) -> str:
    if old is None or new is None:
        name = old if new is None else new
        if name is None:
            lines.fail("the name of the file cannot be told from its header")
        return re.sub(r"^[ab]/", "", name)
    path = _common_path(old, new)
    if path is None:
        lines.fail(f"one section names two files, {old!r} and {new!r}")
    return path


def _common_path(old: str, new: str) -> str | None:
    """Return the one path that two names mean: equal names as they are, else equal but for their first segment."""
    if old == new:
        return old
    old_rest, new_rest = old.partition("/")[2], new.partition("/")[2]
    return old_rest if old_rest and old_rest == new_rest else None
