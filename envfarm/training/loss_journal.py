"""A run's journal: one JSON line for each step, in order, each step once."""

import os
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec

from envfarm.errors import OutputFolderError
from envfarm.training.train_step import StepReport

JOURNAL_FILE = "journal.jsonl"


class LossJournal:
    """A journal that is being written; use it as a context manager."""

    def __init__(self, folder: Path, keep_bytes: int) -> None:
        """Open it, and cut off what is behind the state that the run goes on from.

        Raises:
            OutputFolderError: It is shorter than that: somebody changed it.
        """
        path = folder / JOURNAL_FILE
        self._stream: BinaryIO = path.open("ab")
        if self._stream.tell() < keep_bytes:
            self._stream.close()
            message = f"{path}: its end is missing: remove the folder, and begin again"
            raise OutputFolderError(message)
        self._stream.truncate(keep_bytes)
        self._stream.seek(keep_bytes)

    def __enter__(self) -> Self:
        """Open it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._stream.close()

    def add(self, report: StepReport, seconds: float) -> None:
        """Write a step; `seconds` is the one thing that is not the same when it is done again."""
        self._stream.write(msgspec.json.encode({**asdict(report), "seconds": round(seconds, 3)}) + b"\n")
        self._stream.flush()

    def sync(self) -> int:
        """Bring it to disk, and return its length."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return self._stream.tell()


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """Return the steps of a run; a last line that was cut off by a kill is left out."""
    path = folder / JOURNAL_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    return [msgspec.json.decode(line) for line in lines if line.endswith(b"\n")]
