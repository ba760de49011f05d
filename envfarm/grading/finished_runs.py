"""Keeps what finished runs of a grading showed, so that one that broke off goes on from them and not from the start.

What is kept holds the grading's own secrets (its coins, the report): it stays on the grader's side, in a folder that
only its user can read, and goes when the submission is scored.
"""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from envfarm.errors import UserError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class FinishedRuns(Protocol):
    """What a verifier keeps of its runs, by names of its own choice."""

    def load(self, name: str) -> bytes | None:
        """Return what was kept under a name; None where nothing was."""
        ...

    def save(self, name: str, content: bytes) -> None:
        """Keep something."""
        ...

    def forget(self) -> None:
        """Remove all that was kept: the submission is scored."""
        ...


@dataclass(frozen=True)
class RunsInMemory:
    """Keeps runs for as long as the grading lives: a lost box costs one run, not all."""

    _kept: dict[str, bytes] = field(default_factory=dict, repr=False)

    def load(self, name: str) -> bytes | None:
        """Return what was kept under a name; None where nothing was."""
        return self._kept.get(name)

    def save(self, name: str, content: bytes) -> None:
        """Keep something."""
        self._kept[name] = content

    def forget(self) -> None:
        """Remove all that was kept."""
        self._kept.clear()


@dataclass(frozen=True)
class RunsInFolder:
    """Keeps runs on the disk until the submission is scored: a killed grader loses the runs in flight only."""

    folder: Path

    @classmethod
    def of(cls, parent: Path, told: Sequence[str]) -> "RunsInFolder":
        """Return the place of one grading: all that its verdict depends on gives it its name.

        Args:
            parent: A folder for many gradings.
            told: Digests and versions.
        """
        return cls(parent / hashlib.sha256("\0".join(told).encode()).hexdigest()[:32])

    def load(self, name: str) -> bytes | None:
        """Return what was kept under a name; None where nothing was."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refused(error) from error

    def save(self, name: str, content: bytes) -> None:
        """Keep something; a kill or a full disk leaves all of it or nothing: what is not kept is run again.

        Raises:
            UserError: The folder cannot be written to.
        """
        part = self.folder / f".{name}.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            part.write_bytes(content)
            part.replace(self.folder / name)
        except FileNotFoundError:
            return  # another grader of the same submission had its verdict, and forgot what was kept
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            if error.errno not in _FULL:
                raise self._refused(error) from error

    def forget(self) -> None:
        """Remove all that was kept."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _refused(self, error: OSError) -> UserError:
        message = f"{self.folder}: finished runs cannot be kept there ({error.strerror}): name another folder"
        return UserError(message)
