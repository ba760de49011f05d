"""Says which paths of a workspace belong to the grader. PURE.

A pattern is a relative POSIX path. Within a segment ``*`` stands for any run of characters and ``?`` for one; a segment
``**`` stands for any number of segments, also none: ``tests/**`` is the folder and all below it, ``**/conftest.py`` is
that file at any depth. Everything else, brackets included, means itself. Case matters.

`box_programs/place_files.py` repeats these rules for the inside of a box; a test holds the two together.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import PurePosixPath


def matches(path: PurePosixPath | str, patterns: Iterable[str]) -> bool:
    """Say whether any of the patterns names the relative path; ``.`` and ``//`` in it count for nothing."""
    text = "".join(f"{segment}/" for segment in _segments(str(path)))
    return bool(text) and _compile(tuple(patterns)).fullmatch(text) is not None


@lru_cache(maxsize=256)
def _compile(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(_translate(pattern) for pattern in patterns) or r"(?!)")


def _translate(pattern: str) -> str:
    words: list[str] = []
    for segment in _segments(pattern):
        if segment != "**":
            words.append(re.sub(r"\\\*(?:\\\*)*", "[^/]*", re.escape(segment)).replace(r"\?", "[^/]") + "/")
        elif words[-1:] != ["(?:[^/]+/)*"]:
            words.append("(?:[^/]+/)*")
    return "".join(words) or r"(?!)"


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment not in {"", "."}]
