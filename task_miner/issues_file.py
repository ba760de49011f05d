"""Reads dumps of issues and pull requests: GitHub REST and GraphQL, GH Archive rows, GitLab exports.

A line, or an element of a list, that is none of these is counted and told by number; it never ends a run. Every text
keeps the moment it was written, because a statement may use nothing younger than the fix.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from envfarm.errors import UserError

_PULL_LISTS = ("pullRequests", "merge_requests")
_SEEN_AT = "envfarm seen at"
"""When an archive saw an element in this state."""


@dataclass(frozen=True, kw_only=True)
class DatedText:
    """A text and when it was written, seconds since the epoch."""

    text: str = field(repr=False)
    written_at: float


@dataclass(frozen=True, kw_only=True)
class Discussion:
    """An issue or a pull request.

    Attributes:
        number: Its number.
        is_pull_request: What it is.
        title: Its title.
        body: Its first text.
        comments: What was said below it.
    """

    number: int
    is_pull_request: bool
    title: str
    body: DatedText
    comments: tuple[DatedText, ...] = ()

    def text_before(self, moment: float) -> str | None:
        """Return title and body if they are older than the moment; None otherwise."""
        if self.body.written_at >= moment:
            return None
        return f"{self.title.strip()}\n\n{self.body.text.strip()}".strip() or None


@dataclass(frozen=True, kw_only=True)
class IssueBook:
    """All discussions of a dump, by kind and number."""

    issues: Mapping[int, Discussion] = field(default_factory=dict)
    pull_requests: Mapping[int, Discussion] = field(default_factory=dict)
    unread: tuple[int, ...] = ()
    """Numbers of lines or elements that could not be read."""
    repositories: tuple[str, ...] = ()
    """Names of the repositories that the dump speaks of, where it says so; sorted."""


def read_issues(path: Path) -> IssueBook:
    """Return the discussions of a dump.

    Raises:
        UserError: The file cannot be read, nothing in it is an issue or a pull request, or it holds those of several
            repositories, whose numbers mean different things.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        message = f"--issues {path} cannot be read ({error.strerror}): name a file of JSON lines"
        raise UserError(message) from error
    book = parse_issues(text)
    if text.strip() and not book.issues and not book.pull_requests:
        message = (
            f"--issues {path} holds no issue and no pull request: see docs/statements.md for the shapes it may have"
        )
        raise UserError(message)
    if len(book.repositories) > 1:
        names = ", ".join(book.repositories[:3])
        message = f"--issues {path} holds issues of several repositories ({names}): keep those of the one that is mined"
        raise UserError(message)
    return book


def parse_issues(text: str) -> IssueBook:
    """Return the discussions of a dump's text; whatever cannot be read is counted.

    Of several states of one text the oldest is kept: a fix may have made its way into the younger ones.
    """
    found: dict[tuple[bool, int], Discussion] = {}
    seen: dict[tuple[bool, int], float] = {}
    repositories: set[str] = set()
    comments: dict[int, list[DatedText]] = {}
    unread = []
    for number, element in enumerate(_elements(text), start=1):
        discussion = _discussion(element) if isinstance(element, dict) else None
        repositories |= {_repository(element)} - {""}
        if discussion is not None:
            key = discussion.is_pull_request, discussion.number
            moment = _moment(element.get(_SEEN_AT) or element.get("updated_at")) or discussion.body.written_at
            if moment <= seen.get(key, moment):
                found[key], seen[key] = discussion, moment
        elif isinstance(element, dict) and (comment := _comment(element)) is not None:
            comments.setdefault(comment[0], []).append(comment[1])
        else:
            unread.append(number)
    complete = {
        key: Discussion(
            number=known.number,
            is_pull_request=known.is_pull_request,
            title=known.title,
            body=known.body,
            comments=known.comments + tuple(comments.get(known.number, ())),
        )
        for key, known in found.items()
    }
    return IssueBook(
        issues={number: known for (pull, number), known in complete.items() if not pull},
        pull_requests={number: known for (pull, number), known in complete.items() if pull},
        unread=tuple(unread),
        repositories=tuple(sorted(repositories)),
    )


def _repository(element: Any) -> str:
    """Return ``owner/name``, in lower case, of the repository that an element says it is of; else nothing."""
    url = element.get("repository_url") if isinstance(element, dict) else None
    return "/".join(url.lower().split("/")[-2:]) if isinstance(url, str) else ""


def _elements(text: str) -> Iterator[Any]:
    """Yield the elements of a JSON document, or of JSON lines; None for a line that is no JSON."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        for line in text.splitlines():
            if line.strip():
                try:
                    yield from _flattened(json.loads(line))
                except (ValueError, RecursionError):
                    yield None
        return
    yield from _flattened(document)


def _flattened(document: Any) -> Iterator[Any]:
    """Yield what lists, GraphQL connections and GH Archive rows hold."""
    if isinstance(document, list):
        for item in document:
            yield from _flattened(item)
    elif isinstance(document, dict) and isinstance(document.get("payload"), dict):
        payload = document["payload"]
        whole = payload.get("pull_request") or payload.get("issue")
        repo = document.get("repo")
        told = {_SEEN_AT: document.get("created_at")}
        if isinstance(repo, dict) and isinstance(repo.get("name"), str):
            told["repository_url"] = repo["name"]
        if isinstance(whole, dict):
            yield whole | told | ({"pull_request": {}} if "pull_request" in payload else {})
        if isinstance(payload.get("comment"), dict) and isinstance(whole, dict):
            yield payload["comment"] | {"issue_number": whole.get("number")}
    elif isinstance(document, dict) and not _looks_whole(document) and _nested(document):
        for key, item in _nested(document):
            for inner in _flattened(item):
                yield inner | {"pull_request": {}} if key in _PULL_LISTS and isinstance(inner, dict) else inner
    else:
        yield document


def _looks_whole(document: Mapping[str, Any]) -> bool:
    return ("number" in document or "iid" in document) and "title" in document


def _nested(document: Mapping[str, Any]) -> list[tuple[str, Any]]:
    keys = ("data", "repository", "issues", *_PULL_LISTS, "nodes", "edges", "node")
    return [(key, document[key]) for key in keys if isinstance(document.get(key), dict | list)]


def _discussion(element: Mapping[str, Any]) -> Discussion | None:
    number = element.get("number", element.get("iid"))
    title = element.get("title")
    moment = _moment(element.get("lastEditedAt") or element.get("created_at") or element.get("createdAt"))
    if not isinstance(number, int) or not isinstance(title, str) or moment is None:
        return None
    pull = any(
        key in element for key in ("pull_request", "merge_commit_sha", "mergeCommit", "headRefName", "source_branch")
    )
    body = element.get("body") or element.get("description") or element.get("bodyText") or ""
    comments = element.get("comments")
    nodes = comments.get("nodes", []) if isinstance(comments, dict) else comments
    told = [_dated(item) for item in nodes if isinstance(item, dict)] if isinstance(nodes, list) else []
    return Discussion(
        number=number,
        is_pull_request=pull,
        title=title,
        body=DatedText(text=body if isinstance(body, str) else "", written_at=moment),
        comments=tuple(item for item in told if item is not None),
    )


def _comment(element: Mapping[str, Any]) -> tuple[int, DatedText] | None:
    dated = _dated(element)
    number = element.get("issue_number")
    if number is None and isinstance(element.get("issue_url"), str):
        tail = element["issue_url"].rsplit("/", 1)[-1]
        number = int(tail) if tail.isdigit() else None
    return (number, dated) if isinstance(number, int) and dated is not None else None


def _dated(element: Mapping[str, Any]) -> DatedText | None:
    moment = _moment(element.get("created_at") or element.get("createdAt"))
    body = element.get("body")
    return DatedText(text=body, written_at=moment) if isinstance(body, str) and moment is not None else None


def _moment(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00").replace(" UTC", "+00:00")).timestamp()
    except ValueError:
        return None


def describe_unread(book: IssueBook) -> Iterable[str]:
    """Yield one line about what of the dump could not be read; nothing where all could."""
    if book.unread:
        first = ", ".join(map(str, book.unread[:5]))
        yield f"{len(book.unread)} entries of the issues file could not be read (the first: {first})"
