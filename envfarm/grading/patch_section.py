"""What a diff does to one file, and how that is written as a diff again. PURE.

A section is written with a header of our own making, in git's default form, around the exact bytes of its hunks: what
`git apply` reads is what was understood here, whatever prefix, mail header or prose the diff came with.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from envfarm.grading.path_quoting import quote

SYMLINK_MODE, SUBMODULE_MODE = "120000", "160000"
_USUAL_MODE = "100644"


class Content(StrEnum):
    """What a section brings for its file's content."""

    NONE = "none"
    TEXT = "text"
    BINARY = "binary"
    BINARY_WITHOUT_DATA = "binary_without_data"


@dataclass(frozen=True, kw_only=True)
class PatchSection:
    """What a diff does to one file.

    Attributes:
        old_path: Path before, without prefix; None for a file that is created.
        new_path: Path after; None for a file that is deleted.
        old_mode: Such as ``100644``, where the diff says it.
        new_mode: The same after.
        operation: ``rename`` or ``copy``, else empty.
        index: Object names of both sides, where the diff says them.
        content: What `body` is.
        body: The exact bytes of the hunks or of the binary data.
        git_header: Whether the section came with git's own header, or only with ``---`` and ``+++``.
    """

    old_path: str | None
    new_path: str | None
    old_mode: str = ""
    new_mode: str = ""
    operation: str = ""
    index: str = ""
    content: Content = Content.NONE
    body: bytes = field(default=b"", repr=False)
    git_header: bool = True

    @property
    def paths(self) -> tuple[str, ...]:
        """The path, or both paths of a rename or copy."""
        return tuple(dict.fromkeys(path for path in (self.old_path, self.new_path) if path is not None))

    @property
    def added_text(self) -> bytes:
        """All added lines of a text section joined: for a new symbolic link, its target."""
        return b"\n".join(line[1:] for line in self.body.split(b"\n") if line.startswith(b"+"))


def write_sections(sections: Iterable[PatchSection]) -> bytes:
    """Return the sections as one diff in git's default form."""
    return b"".join(_write_section(section) for section in sections)


def _write_section(section: PatchSection) -> bytes:
    old = section.old_path if section.old_path is not None else str(section.new_path)
    new = section.new_path if section.new_path is not None else old
    old_name, new_name = quote(f"a/{old}"), quote(f"b/{new}")
    lines: list[bytes] = []
    if section.git_header:
        lines.append(b"diff --git " + old_name + b" " + new_name)
        lines += _mode_lines(section)
        if section.operation:
            word = section.operation.encode()
            lines += [word + b" from " + quote(old), word + b" to " + quote(new)]
        if section.index:
            lines.append(_index_line(section))
    if section.content is Content.TEXT:
        lines.append(b"--- " + (b"/dev/null" if section.old_path is None else _with_end(old_name)))
        lines.append(b"+++ " + (b"/dev/null" if section.new_path is None else _with_end(new_name)))
    return b"\n".join(lines) + b"\n" + section.body


def _mode_lines(section: PatchSection) -> list[bytes]:
    if section.old_path is None:
        return [f"new file mode {section.new_mode or _USUAL_MODE}".encode()]
    if section.new_path is None:
        return [f"deleted file mode {section.old_mode or _USUAL_MODE}".encode()]
    if section.old_mode != section.new_mode:
        return [f"old mode {section.old_mode}".encode(), f"new mode {section.new_mode}".encode()]
    return []


def _index_line(section: PatchSection) -> bytes:
    kept = None not in {section.old_path, section.new_path} and section.old_mode == section.new_mode
    return f"index {section.index} {section.new_mode if kept else ''}".rstrip().encode()


def _with_end(name: bytes) -> bytes:
    """Return the name with the tab that git puts after one with spaces, so that its end is certain."""
    return name + b"\t" if b" " in name and not name.startswith(b'"') else name
