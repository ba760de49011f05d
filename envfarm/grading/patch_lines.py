"""Walks over the lines of a diff and takes the content of its sections: hunks and binary data. PURE.

Hunks are counted line by line as git counts them, so nothing can hide behind the end of one.
"""

import re
from typing import Never

_HUNK = re.compile(rb"@@ -\d{1,9}(?:,(\d{1,9}))? \+\d{1,9}(?:,(\d{1,9}))? @@")
_BINARY_SIZE = re.compile(rb"(?:literal|delta) \d{1,12}$")


class PatchError(Exception):
    """The diff is malformed. `str()` says where and how."""


class PatchLines:
    """The lines of a diff, and the one that is read next. A last line without newline counts as whole."""

    def __init__(self, patch: bytes) -> None:
        whole = patch if patch.endswith(b"\n") else patch + b"\n"
        self._lines = whole.split(b"\n")[:-1]
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether there is a next line."""
        return self._at < len(self._lines)

    @property
    def line(self) -> bytes:
        """The next line as it stands, without its newline; empty at the end."""
        return self._lines[self._at] if self.more else b""

    @property
    def header(self) -> bytes:
        """The next line as a header: a carriage return at its end is a mailer's, not a name's."""
        return self.line.removesuffix(b"\r")

    @property
    def at_hunk(self) -> bool:
        """Whether the next line begins a hunk."""
        return _HUNK.match(self.line) is not None

    @property
    def at_plain_header(self) -> bool:
        """Whether the next lines are ``---`` and ``+++`` before a hunk."""
        after = self._lines[self._at + 1 : self._at + 3]
        return self.line.startswith(b"--- ") and [line[:4] for line in after] == [b"+++ ", b"@@ -"]

    def take(self) -> bytes:
        """Return the next line and go on."""
        line = self.line
        self._at += 1
        return line

    def fail(self, what: str) -> Never:
        """Raise PatchError for the next line."""
        message = f"line {self._at + 1}: {what}"
        raise PatchError(message)

    def take_hunks(self) -> bytes:
        """Return the exact bytes of all hunks from here on; empty where there is none.

        Raises:
            PatchError: A hunk is shorter or longer than its first line says.
        """
        taken: list[bytes] = []
        while (match := _HUNK.match(self.line)) is not None:
            taken.append(self.take())
            old, new = (1 if count is None else int(count) for count in match.groups())
            self._take_hunk(taken, old, new)
        return b"\n".join([*taken, b""])

    def _take_hunk(self, taken: list[bytes], old: int, new: int) -> None:
        while old or new:
            mark = self.line[:1]
            if not self.more:
                self.fail("the diff ends within a hunk")
            if mark in {b" ", b""}:
                old, new = old - 1, new - 1
            elif mark == b"-":
                old -= 1
            elif mark == b"+":
                new -= 1
            elif mark != b"\\":
                self.fail("a hunk ends before it has the lines that its first line promises")
            if old < 0 or new < 0:
                self.fail("a hunk has more lines than its first line says")
            taken.append(self.take())
        while self.line.startswith(b"\\ "):
            taken.append(self.take())

    def take_binary(self) -> bytes:
        """Return the bytes of a ``GIT binary patch``, its first line included.

        Raises:
            PatchError: There is no data in it.
        """
        taken = [self.take().removesuffix(b"\r")]
        while _BINARY_SIZE.match(self.header):
            while self.more and self.header:
                taken.append(self.take().removesuffix(b"\r"))
            self.take()
            taken.append(b"")
        if len(taken) == 1:
            self.fail("a binary file's change without its data")
        return b"\n".join([*taken, b""])
