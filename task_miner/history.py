"""Reads history: one streamed `git log`, first parents only, as units. Memory does not grow with history."""

import re
import secrets
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from envfarm.errors import RepositoryError
from task_miner.sources.git_command import git_arguments, git_environment
from task_miner.unit import Change, Unit

_SQUASH_TRAILER = re.compile(r"\(#\d+\)\s*$")
_CHUNK_BYTES = 1 << 16


def iterate_units(
    git_folder: Path, head: str, *, since: str | None = None, until: str | None = None, released: bool = False
) -> Iterator[Unit]:
    """Yield the units of a branch, newest first.

    Args:
        git_folder: The repository.
        head: Commit to start from.
        since: Leave out commits older than this, ISO 8601; a date means its first moment in UTC.
        until: Leave out commits younger than this; a date means its last moment.
        released: Whether each commit is a release (a `pypi:` history).

    Raises:
        RepositoryError: History cannot be read to its end.
    """
    oldest = _moment(since, last=False) if since else None
    youngest = _moment(until, last=True) if until else None
    for unit in _all_units(git_folder, head, released=released):
        if (oldest is None or unit.committed_at >= oldest) and (youngest is None or unit.committed_at <= youngest):
            yield unit


def _moment(text: str, *, last: bool) -> float:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() + (86_399 if last and len(text) == len("2024-01-31") else 0)


def _all_units(git_folder: Path, head: str, *, released: bool) -> Iterator[Unit]:
    mark = secrets.token_hex(16)
    arguments = git_arguments(
        git_folder,
        "log",
        "--first-parent",
        "--diff-merges=first-parent",
        "--root",
        "--raw",
        "-z",
        "--no-abbrev",
        "--no-renames",
        "--no-color",
        "--encoding=UTF-8",
        f"--format={mark}%H%x00%P%x00%ct%x00%B%x00",
        head,
    )
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=git_environment(), process_group=0
    ) as process:
        if process.stdout is None or process.stderr is None:
            return
        finished = False
        try:
            for record in _records(process.stdout, mark.encode()):
                yield _parse(record, released=released)
            finished = True
        finally:
            if not finished:
                process.kill()
        said = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
    if process.returncode != 0:
        message = f"history cannot be read: {said[-1] if said else 'git failed'}: run git fsck on the repository"
        raise RepositoryError(message)


def _records(stream: IO[bytes], mark: bytes) -> Iterator[bytes]:
    """Yield what stands between marks; a mark is drawn anew for each run, so no commit message can hold it."""
    waiting = b""
    while chunk := stream.read(_CHUNK_BYTES):
        waiting += chunk
        *whole, waiting = waiting.split(mark)
        yield from (record for record in whole if record)
    if waiting:
        yield waiting


def _parse(record: bytes, *, released: bool) -> Unit:
    commit, parents, time, message, rest = record.split(b"\0", 4)
    text = message.decode("utf-8", "replace")
    ids = tuple(parents.decode().split())
    return Unit(
        commit=commit.decode(),
        parents=ids,
        committed_at=int(time),
        message=text,
        kind="release" if released else _kind(ids, text),
        changes=tuple(_changes(rest)),
    )


def _kind(parents: tuple[str, ...], message: str) -> str:
    if len(parents) > 1:
        return "merge"
    subject = message.split("\n", 1)[0]
    return "squash" if _SQUASH_TRAILER.search(subject) else "plain"


def _changes(raw: bytes) -> Iterator[Change]:
    words = raw.strip(b"\n").split(b"\0")
    position = 0
    while position + 1 < len(words):
        facts = words[position].lstrip(b"\n")
        if not facts.startswith(b":"):
            position += 1
            continue
        old_mode, new_mode, old, new, status = facts[1:].decode().split(" ")
        yield Change(
            path=words[position + 1].decode("utf-8", "surrogateescape"),
            status=status[0],
            old_blob=old if old.strip("0") else None,
            new_blob=new if new.strip("0") else None,
            old_mode=int(old_mode, 8),
            new_mode=int(new_mode, 8),
        )
        position += 2
