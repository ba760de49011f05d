"""Gathers what a statement can be made from: messages, the changelog's new lines, issues, failures."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from envfarm.records.task import Link, LinkKind
from task_miner.issues_file import Discussion, IssueBook
from task_miner.sources.git_command import ObjectReader, run_git
from task_miner.statement import MANY_WORDS, StatementMaterial
from task_miner.unit import Candidate

_CHANGELOG = re.compile(r"(?i)(change(s|log)?|history|news|release[-_]?notes?|versions?)([-_.].*)?\Z")
_CHANGELOG_FOLDER = frozenset({"changes", "changelog", "changelog.d", "newsfragments", "news"})
_HEADING = re.compile(
    r"^([=\-~^]{3,}|#+ .*|v?\d+(\.\d+)+.*|[_*(\[]*(un)?released\b.*|\.\. .*|\[[^\]]+\]:\s+https?://\S+)$", re.IGNORECASE
)
"""Of a changelog: underlines, headings, versions, dates and the targets of links."""


def gather_material(
    git_folder: Path,
    reader: ObjectReader,
    candidate: Candidate,
    *,
    links: tuple[Link, ...],
    issues: IssueBook,
    failures: Mapping[str, str],
    hidden_names: frozenset[str],
) -> StatementMaterial:
    """Return everything that a candidate's statement can be made from."""
    moment = float(candidate.unit.committed_at)
    issue = _first_text(links, LinkKind.ISSUE, issues.issues, moment) or _first_text(
        links, LinkKind.PULL_REQUEST, issues.issues, moment
    )
    return StatementMaterial(
        issue=issue,
        pull_request=_first_text(links, LinkKind.PULL_REQUEST, issues.pull_requests, moment) or _merge_body(candidate),
        changelog=_changelog_lines(reader, candidate),
        message=_message(git_folder, candidate),
        failures=failures,
        project=candidate.candidate_id.rsplit("-", 1)[0],
        hidden_names=hidden_names,
        fix_paths=tuple(change.path for change in candidate.source),
    )


def _first_text(links: tuple[Link, ...], kind: LinkKind, known: Mapping[int, Discussion], moment: float) -> str | None:
    for link in links:
        found = known.get(link.number) if link.kind == kind and link.confidence > 0.5 else None  # noqa: PLR2004 -- mentions
        text = found.text_before(moment) if found is not None else None
        if text:
            return text
    return None


def _merge_body(candidate: Candidate) -> str | None:
    """Return the pull request's text, where the merge commit's body holds more of it than its title."""
    if candidate.unit.kind != "merge":
        return None
    _, _, body = candidate.unit.message.partition("\n")
    return body.strip() if len(body.split()) >= MANY_WORDS else None


def _message(git_folder: Path, candidate: Candidate) -> str:
    """Return the commit's message; for a merge, the messages of what it merged as well."""
    if candidate.unit.kind != "merge":
        return candidate.unit.message
    told = run_git(
        git_folder,
        "log",
        "--no-merges",
        "--max-count=20",
        "--reverse",
        "--format=%B",
        f"{candidate.base_commit}..{candidate.fix_commit}",
    )
    return candidate.unit.message + "\n\n" + told.decode("utf-8", "replace")


def _changelog_lines(reader: ObjectReader, candidate: Candidate) -> str:
    found: list[str] = []
    for change in candidate.unit.changes:
        path = PurePosixPath(change.path)
        named = _CHANGELOG.match(path.name) or (len(path.parts) > 1 and path.parts[0].lower() in _CHANGELOG_FOLDER)
        if not named or path.suffix.lower() not in {"", ".md", ".rst", ".txt"} or change.new_blob is None:
            continue
        old = reader.read(change.old_blob) if change.old_blob else b""
        new = reader.read(change.new_blob) or b""
        before = set((old or b"").splitlines())
        lines = [line.decode("utf-8", "replace") for line in new.splitlines() if line not in before]
        found += [line for line in lines if line.strip() and not _HEADING.match(line.strip())]
    return "\n".join(found[:40])
