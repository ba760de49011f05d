"""Chooses and cleans the words that a policy is given. PURE.

In order: an issue older than the fix, the pull request's own text, what the commit adds to the changelog, a commit
message of 40 words or more, and else a description made from how the tests fail on the base. Whatever tells the fix is
taken out: commit hashes, ``(#N)``, links to the fix, names of hidden tests and of the files that the fix changes, and
whole paragraphs that quote the fix's own code.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from envfarm.records.task import Statement, StatementSource

MANY_WORDS = 40
FLAGS = ("short", "generated", "no_expected_behaviour", "names_function", "has_code", "has_traceback")
"""All flags; docs/statements.md says what each means."""

_TRAILERS = re.compile(
    r"^(Signed-off-by|Co-authored-by|Reviewed-by|Acked-by|Tested-by|Change-Id|Cc|Merge-request|See merge request"
    r"|git-svn-id|cherry picked|\* *Merge)\b.*$",
    re.MULTILINE | re.IGNORECASE,
)
_CLOSING = re.compile(
    r"(?i)[\s,;(]*\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?|refs?|see)\b:?\s+(?:issues?\s+|pr\s+)?"
    r"(?:(?:[\w.-]+/[\w.-]+)?#|GH-|https?://\S+/)\d+\)?(?:\s*(?:,|and|&)\s*(?:[\w.-]+/[\w.-]+)?#\d+)*"
)
_NUMBER = re.compile(r"\s*\((?:#|GH-)\d+\)|\s*:(?:issue|pr|pull|gh|user):`[^`]*`")
_TRACKED = r"https?://[^\s)>\]]*/(?:pull|pulls|commit|commits|compare|merge_requests|issues)/[^\s)>\]]*"
_LINK = re.compile(_TRACKED)
_MARKED_LINK = rf"\[[^\[\]]*\]\({_TRACKED}\)|`[^`<>]*<{_TRACKED}>`__?"
"""A link to an issue, a pull request or a commit, as Markdown and reStructuredText write it, with its words."""
_ASIDE = re.compile(rf"\s*[(\[](?:(?:{_MARKED_LINK}|#\d+)[\s,;&]*)+[)\]](?!\()")
_IN_A_SENTENCE = re.compile(rf"(?<=[a-z] )(?:{_MARKED_LINK}|#\d+\b)")
_ELSEWHERE = re.compile(rf"{_MARKED_LINK}|(?<![\w/&])#\d+\b:?")
_OMITTED = "[...]"
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{5,}\b")
_SCRATCH = re.compile(r"/tmp/[\w.-]+(?:/pytest-\d+)?")  # noqa: S108 -- in what a test printed
_HASH = re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,40}\b")
_MERGE_SUBJECT = re.compile(r"\AMerge (pull request #\d+ from \S+|branch .*|remote-tracking .*)\s*")
_MARKUP = re.compile(r"<!--.*?-->", re.DOTALL)
_LENGTH_LIMIT = 12_000
_BARE = re.compile(r"|[\w.]*(Error|Exception|Failed|assert False):?")
_MOST_FAILURES = 8
_MOST_ERROR_LINES = 6
_MOST_PRINTED_LINES = 20


@dataclass(frozen=True, kw_only=True)
class StatementMaterial:
    """What a statement can be made from.

    Attributes:
        issue: Title and body of a linked issue older than the fix.
        pull_request: Title and body of the fix's pull request.
        changelog: Lines that the fix adds to a changelog.
        message: The commit's message.
        failures: How deciding tests fail on the base: message by test id.
        project: The distribution's name.
        hidden_names: Names of hidden tests: functions, classes and files.
        fix_paths: Paths that the fix changes.
        fix_lines: Lines of code that the fix adds.
    """

    issue: str | None = field(default=None, repr=False)
    pull_request: str | None = field(default=None, repr=False)
    changelog: str = ""
    message: str = ""
    failures: Mapping[str, str] = field(default_factory=dict, repr=False)
    project: str = ""
    hidden_names: frozenset[str] = frozenset()
    fix_paths: tuple[str, ...] = ()
    fix_lines: tuple[str, ...] = field(default=(), repr=False)


def choose_statement(material: StatementMaterial) -> Statement:
    """Return the best statement that the material gives; its text is never empty."""
    offers = (
        (StatementSource.ISSUE, material.issue, 5),
        (StatementSource.PULL_REQUEST, material.pull_request, 12),
        (StatementSource.CHANGELOG, material.changelog, 5),
        (StatementSource.COMMIT_MESSAGE, _MERGE_SUBJECT.sub("", material.message), MANY_WORDS),
    )
    for source, offer, least_words in offers:
        text = clean(offer or "", material)
        if len(text.split()) >= least_words:
            return _finished(source, text, material.project)
    generated, says_what = describe_failures(material)
    statement = _finished(StatementSource.TEST_REPORT, generated, material.project)
    flags = statement.flags if says_what else (*statement.flags, "no_expected_behaviour")
    return Statement(text=statement.text, source=statement.source, flags=flags)


def clean(text: str, material: StatementMaterial) -> str:
    """Return the text without whatever tells the fix or the hidden tests."""
    for pattern in (_MARKUP, _TRAILERS, _CLOSING, _ASIDE):
        text = pattern.sub("", text)
    text = _IN_A_SENTENCE.sub(_OMITTED, text)
    for pattern in (_ELSEWHERE, _LINK, _NUMBER, _HASH):
        text = pattern.sub("", text)
    names = dict.fromkeys(material.hidden_names, "a test")
    for path in material.fix_paths:
        names |= dict.fromkeys(
            {path, PurePosixPath(path).name} if "." in PurePosixPath(path).name else {path}, "the code"
        )
    for name in sorted(names, key=len, reverse=True):
        dotted = r"(?:\w+\.)*" if name in material.hidden_names else ""
        text = re.sub(rf"`*(?<![\w.]){dotted}{re.escape(name)}(?!\w)(::\w+)*`*", names[name], text)
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    paragraphs = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip().split("\n\n")
    told = [" ".join(line.split()) for line in material.fix_lines]
    kept = [paragraph for paragraph in paragraphs if not _quotes(paragraph, told)]
    return "\n\n".join(dict.fromkeys(kept))[:_LENGTH_LIMIT].strip()


def _quotes(paragraph: str, lines: Iterable[str]) -> bool:
    """Say whether a paragraph holds a line of the fix, however it is broken into lines."""
    flat = " ".join(paragraph.split())
    return any(line in flat for line in lines)


def _finished(source: StatementSource, body: str, project: str) -> Statement:
    heading = {
        StatementSource.ISSUE: f"Resolve this issue of {project}:",
        StatementSource.PULL_REQUEST: f"Make this change to {project}:",
        StatementSource.CHANGELOG: f"Make {project} behave as this entry of its changelog says:",
        StatementSource.COMMIT_MESSAGE: f"Make this change to {project}:",
        StatementSource.TEST_REPORT: f"Something in {project} does not behave as it should:",
    }[source]
    task = (
        "Change the code in /workspace so that it behaves as described. Existing behaviour has to stay as it is. "
        "Hidden tests decide; changes to tests and to their configuration are not taken over."
    )
    return Statement(text=f"{heading}\n\n{body}\n\n{task}\n", source=source, flags=tuple(_flags(source, body)))


def _flags(source: StatementSource, body: str) -> Iterable[str]:
    if len(body.split()) < MANY_WORDS:
        yield "short"
    if source is StatementSource.TEST_REPORT:
        yield "generated"
    if re.search(r"\b\w+\(\)|`\w+`", body):
        yield "names_function"
    if "```" in body or re.search(r"^(    |\t)\S", body, re.MULTILINE):
        yield "has_code"
    if "Traceback (most recent call last)" in body:
        yield "has_traceback"


def describe_failures(material: StatementMaterial) -> tuple[str, bool]:
    """Describe what is wrong: what the author said in short, what the tests are about in words, and how they fail.

    Returns:
        The description, and whether any failure in it says more than that there is one.
    """
    parts = []
    subject, _, body = clean(_MERGE_SUBJECT.sub("", material.message), material).partition("\n")
    subject = subject.lstrip("-* ")
    if len(subject.split()) > 1:
        parts.append(f"The change is known as: {subject}\n")
    if body.strip():
        parts.append(f"{body.strip()}\n")
    found: dict[str, str] = {}
    for name, message in sorted(material.failures.items()):
        about = _in_words(name) if "::" in name else "the tests cannot even be loaded"
        if about:
            found.setdefault(about, clean(_without_chance(_failure(message)), material))
    for about, told in list(found.items())[:_MOST_FAILURES]:
        indented = told.replace("\n", "\n      ")
        parts.append(f"- {about}" + (f":\n\n      {indented}\n" if told else ""))
    if not found:
        parts.append("What is missing cannot even be imported yet.")
    return "\n".join(parts).strip(), any(found.values())


def _failure(message: str) -> str:
    """Return what a failing test's report says of the failure; empty where it names an exception and nothing else."""
    lines = message.splitlines()
    errors = [line[1:].strip() for line in lines if line.startswith("E ")]
    errors = list(itertools.takewhile(lambda line: line != "Full diff:", errors))[:_MOST_ERROR_LINES]
    if not all(_BARE.fullmatch(line) for line in errors):
        return "\n".join(errors)
    printed = [line[2:] for line in lines if line.startswith("| ")]
    return "\n".join(printed[-_MOST_PRINTED_LINES:]).strip()


def _without_chance(text: str) -> str:
    """Return what a test printed without addresses and scratch folders: they differ from run to run."""
    return _SCRATCH.sub("/tmp", _ADDRESS.sub("0x...", text))  # noqa: S108 -- in what a test printed


def _in_words(test_id: str) -> str:
    """Return what a test's name says, as words: never the name itself."""
    last = test_id.rsplit("::", maxsplit=1)[-1]
    name, _, parameters = last.partition("[")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", re.sub(r"^test_?", "", name)).replace("_", " ").strip()
    shown = parameters.rstrip("]")
    if words and shown and len(shown) <= 60 and shown.isprintable():  # noqa: PLR2004 -- longer ids are data
        return f"{words} (case {shown})"
    return words
