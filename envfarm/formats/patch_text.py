"""What a unified diff of git's adds and takes, per file: enough to tell whether it is applied already. PURE."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_HUNK = re.compile(rb"@@ -\d{1,18}(?:,(\d{1,18}))? \+\d{1,18}(?:,(\d{1,18}))? @@")


@dataclass(frozen=True, kw_only=True)
class PatchedFile:
    """One file of a diff.

    Attributes:
        path: Its path after the diff; as git writes it, so quoted where it is unusual.
        old: Per hunk, the lines before, context included.
        new: Per hunk, the lines after, context included.
    """

    path: str
    old: tuple[bytes, ...]
    new: tuple[bytes, ...]

    @property
    def own_lines(self) -> tuple[bytes, ...]:
        """The lines that only the new side has, stripped."""
        before = {line.strip() for hunk in self.old for line in hunk.split(b"\n")}
        after = dict.fromkeys(line.strip() for hunk in self.new for line in hunk.split(b"\n"))
        return tuple(line for line in after if line and line not in before)

    def is_applied_to(self, content: bytes) -> bool:
        """Say whether a content is as the diff makes it: it holds every hunk's new lines, and not its old ones."""
        if not self.new:
            return False
        text = b"\n" + content.replace(b"\r\n", b"\n") + b"\n"
        return all(
            b"\n" + new + b"\n" in text and (not old or old in new or b"\n" + old + b"\n" not in text)
            for old, new in zip(self.old, self.new, strict=True)
        )


def read_patch(patch: bytes) -> Iterator[PatchedFile]:
    """Yield the files of a diff that gain or lose lines; deleted and binary files are left out."""
    path = ""
    old: list[list[bytes]] = []
    new: list[list[bytes]] = []
    left_old = left_new = 0
    for line in patch.split(b"\n"):
        if left_old > 0 or left_new > 0:
            text = line[1:].removesuffix(b"\r")
            if line[:1] in {b" ", b"-", b""}:
                old[-1].append(text)
                left_old -= 1
            if line[:1] in {b" ", b"+", b""}:
                new[-1].append(text)
                left_new -= 1
            continue
        match = _HUNK.match(line)
        if match and path:
            left_old, left_new = int(match[1] or 1), int(match[2] or 1)
            old.append([])
            new.append([])
        elif line.startswith((b"diff --git ", b"--- ")) and new:
            yield _patched(path, old, new)
            path, old, new = "", [], []
        if line.startswith(b"+++ b/"):
            path = line[6:].split(b"\t")[0].decode("utf-8", "surrogateescape")
    if new:
        yield _patched(path, old, new)


def _patched(path: str, old: list[list[bytes]], new: list[list[bytes]]) -> PatchedFile:
    return PatchedFile(path=path, old=tuple(map(b"\n".join, old)), new=tuple(map(b"\n".join, new)))
