"""Which issues and pull requests a commit belongs to, told by its message alone. PURE.

Rules, surest first: closing keywords, the squash trailer, the merge subject, a pull request's own ref, a bare mention.
Code blocks are left out. A number is kept once, by its surest rule.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from envfarm.records.task import Link, LinkKind

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_REFERENCE = r"(?:(?:[\w.-]+/[\w.-]+)?#|GH-|https?://[^\s/]+/[\w.-]+/[\w.-]+/(?:-/)?issues/)(?P<number>\d{1,7})\b"
_CLOSING = re.compile(rf"\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)\b:?\s+(?:issues?\s+)?{_REFERENCE}", re.IGNORECASE)
_FURTHER = re.compile(rf"\s*(?:,|and|&)\s*(?:(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)\s+)?{_REFERENCE}", re.IGNORECASE)
_SQUASH = re.compile(r"\(#(?P<number>\d{1,7})\)\s*\Z")
_MERGE = re.compile(r"\AMerge pull request #(?P<number>\d{1,7})\b")
_GITLAB = re.compile(r"^See merge request \S*!(?P<number>\d{1,7})\s*$", re.MULTILINE)
_PULL_URL = re.compile(r"https?://[^\s/]+/[\w.-]+/[\w.-]+/(?:-/)?(?:pull|merge_requests)/(?P<number>\d{1,7})\b")
_MENTION = re.compile(r"(?<![\w/&#])#(?P<number>\d{1,7})\b")

_CONFIDENCE = {
    "closing_keyword": 0.97,
    "merge_subject": 0.99,
    "squash_trailer": 0.95,
    "pull_ref": 0.99,
    "pull_url": 0.7,
    "mention": 0.3,
}


def find_links(
    message: str, commits: Iterable[str] = (), pull_heads: Mapping[str, int] | None = None
) -> tuple[Link, ...]:
    """Return the links of a commit, surest first, then by number.

    Args:
        message: The commit's whole message.
        commits: Its id, and those of the heads that it merged.
        pull_heads: Numbers of pull requests by the commit at their head, where the clone has such refs.
    """
    text = _CODE.sub(" ", message)
    best: dict[int, Link] = {}
    for kind, number, rule in _all(text, commits, pull_heads or {}):
        link = Link(kind=kind, number=number, confidence=_CONFIDENCE[rule], found_in=rule)
        known = best.get(number)
        if known is None or link.confidence > known.confidence:
            best[number] = link
    return tuple(sorted(best.values(), key=lambda link: (-link.confidence, link.number)))


def _all(text: str, commits: Iterable[str], pull_heads: Mapping[str, int]) -> Iterator[tuple[LinkKind, int, str]]:
    subject = text.split("\n", 1)[0]
    for match in _CLOSING.finditer(text):
        yield LinkKind.ISSUE, int(match["number"]), "closing_keyword"
        position = match.end()
        while further := _FURTHER.match(text, position):
            yield LinkKind.ISSUE, int(further["number"]), "closing_keyword"
            position = further.end()
    if squashed := _SQUASH.search(subject):
        yield LinkKind.PULL_REQUEST, int(squashed["number"]), "squash_trailer"
    for pattern in (_MERGE, _GITLAB):
        if merged := pattern.search(text):
            yield LinkKind.PULL_REQUEST, int(merged["number"]), "merge_subject"
    for commit in commits:
        if commit in pull_heads:
            yield LinkKind.PULL_REQUEST, pull_heads[commit], "pull_ref"
    for match in _PULL_URL.finditer(text):
        yield LinkKind.PULL_REQUEST, int(match["number"]), "pull_url"
    for match in _MENTION.finditer(text):
        yield LinkKind.ISSUE, int(match["number"]), "mention"
