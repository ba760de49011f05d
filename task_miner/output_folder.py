"""The output folder of a run: whose it is, where things lie in it, and what survives a kill.

::

    OUT/envfarm-ledger.sqlite    the ledger; its presence makes the folder ours
    OUT/tasks/ID/                published tasks; each appears by one rename, so what is there is whole
    OUT/logs/ID/STAGE.log        why a candidate fell, or how it passed
    OUT/state/ID/                results of ended stages of a candidate that is not finished yet

Only one process mines into a folder at a time: it holds a lock that the kernel takes back when the process dies.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from envfarm.errors import OutputFolderError, RecordError
from envfarm.records.versioned import Record, decode_line, encode_line
from task_miner.ledger import LEDGER_FILE
from task_miner.reasons import Stage

RecordT = TypeVar("RecordT", bound=Record)

_LOCK_FILE = ".envfarm-lock"


@dataclass(frozen=True)
class OutputFolder:
    """The layout of one output folder; `claim_folder` makes and locks it."""

    path: Path

    @property
    def tasks(self) -> Path:
        """Where published tasks lie."""
        return self.path / "tasks"

    def task(self, candidate_id: str) -> Path:
        """Where the candidate's task lies once it is published."""
        return self.tasks / candidate_id

    def state(self, candidate_id: str) -> Path:
        """Where results of the candidate's ended stages lie."""
        return self.path / "state" / candidate_id

    def log(self, candidate_id: str, stage: Stage) -> Path:
        """Where the stage's log lies."""
        return self.path / "logs" / candidate_id / f"{stage}.log"

    def write_log(self, candidate_id: str, stage: Stage, text: str) -> str:
        """Write a stage's log and return its path relative to the folder."""
        path = self.log(candidate_id, stage)
        write_atomically(path, text.encode("utf-8", "replace"))
        return path.relative_to(self.path).as_posix()

    def save(self, candidate_id: str, name: str, record: Record) -> None:
        """Keep the result of a stage that has ended."""
        write_atomically(self.state(candidate_id) / f"{name}.json", encode_line(record))

    def load(self, candidate_id: str, name: str, record_type: type[RecordT]) -> RecordT | None:
        """Return the kept result of a stage; None where there is none that this release understands."""
        try:
            return decode_line((self.state(candidate_id) / f"{name}.json").read_bytes(), record_type)
        except (FileNotFoundError, RecordError):
            return None

    def drop_state(self, candidate_id: str) -> None:
        """Remove what was kept of a candidate, once it is published or has fallen."""
        shutil.rmtree(self.state(candidate_id), ignore_errors=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Make the file hold exactly `content`: it is there whole, or as it was before.

    Raises:
        OutputFolderError: The disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise as_folder_error(path, error) from error


def as_folder_error(path: Path, error: OSError) -> OutputFolderError:
    """Return the one line that says why the folder cannot be written, and what to do."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return OutputFolderError(f"no space left for {path}: free some, then run the same command again to go on")
    return OutputFolderError(f"{path} cannot be written ({error.strerror}): name another --out, or change its owner")


@contextmanager
def claim_folder(path: Path) -> Iterator[OutputFolder]:
    """Make the folder ours for the length of the block.

    Raises:
        OutputFolderError: It is a file, is not empty and not ours, cannot be written, or another process mines into it.
    """
    if path.exists() and not path.is_dir():
        message = f"{path} is a file: name a folder as --out"
        raise OutputFolderError(message)
    try:
        if path.is_dir() and not (path / LEDGER_FILE).is_file():
            strangers = [entry.name for entry in path.iterdir() if entry.name != _LOCK_FILE]
            if strangers:
                message = f"{path} is not empty and holds no ledger of ours: name a new or empty folder as --out"
                raise OutputFolderError(message)
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise as_folder_error(path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"another `envfarm mine` is writing to {path}: wait for it, or name another --out"
            raise OutputFolderError(message) from error
        _remove_unfinished(path)
        try:
            yield OutputFolder(path)
        finally:
            _leave_nothing_empty(path)
    finally:
        os.close(descriptor)


def _remove_unfinished(path: Path) -> None:
    """Remove what a killed run left half-written: all that bears the name is ours, and whoever wrote it is dead."""
    for pattern in ("tasks/.*.partial*", "state/*/.*.partial", "logs/*/.*.partial"):
        for found in path.glob(pattern):
            if found.is_dir():
                shutil.rmtree(found, ignore_errors=True)
            else:
                found.unlink(missing_ok=True)


def _leave_nothing_empty(path: Path) -> None:
    """Remove the folder again when nothing but our lock came to be in it."""
    if [entry.name for entry in path.iterdir()] == [_LOCK_FILE]:
        (path / _LOCK_FILE).unlink()
        with contextlib.suppress(OSError):
            path.rmdir()
