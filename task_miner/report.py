"""What a run of the miner tells: events while it goes on, and one report at its end. PURE."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from task_miner.ledger import StageRow
from task_miner.reasons import ReasonCode


@dataclass(frozen=True, kw_only=True)
class PublishedTask:
    """One line of the report.

    Attributes:
        task_id: The task.
        path: Its folder.
        fail_to_pass: Ids of tests that the fix makes pass.
        pass_to_pass: Ids of tests that have to go on passing.
        statement_source: Where the statement's words come from.
        links: Issues and pull requests, as ``issue:12`` or ``pull_request:13``.
    """

    task_id: str
    path: str
    fail_to_pass: tuple[str, ...] = field(repr=False)
    pass_to_pass: tuple[str, ...] = field(repr=False)
    statement_source: str
    links: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MineReport:
    """What a run of the miner came to.

    Attributes:
        repo: As it was asked for.
        candidates: Units that touch source and tests so that a test could see it.
        validated: Candidates whose tests fail before the fix and pass after it.
        published: Tasks that passed the publish gate, those of earlier runs included.
        rejected: Candidates that fell, by reason.
        seconds: Wall-clock time of this run.
        tasks: The published tasks, newest fix first.
        interrupted: Whether the run was ended before it was through.
    """

    repo: str
    candidates: int
    validated: int
    published: int
    rejected: dict[str, int]
    seconds: float
    tasks: tuple[PublishedTask, ...]
    interrupted: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the object that `envfarm mine --json` prints."""
        return {
            "repo": self.repo,
            "candidates": self.candidates,
            "validated": self.validated,
            "published": self.published,
            "rejected": self.rejected,
            "seconds": round(self.seconds, 3),
            "tasks": [
                {
                    "id": task.task_id,
                    "path": task.path,
                    "fail_to_pass": list(task.fail_to_pass),
                    "pass_to_pass": list(task.pass_to_pass),
                    "statement_source": task.statement_source,
                    "links": list(task.links),
                }
                for task in self.tasks
            ],
        }


class Observer(Protocol):
    """Is told what goes on; shows it, or does not. Called from the run's own thread, and has to return at once."""

    def on_message(self, text: str) -> None:
        """Something that a person wants to know, in one line."""
        ...

    def on_units(self, units: int, candidates: int, *, complete: bool) -> None:
        """History has been read so far: that many units, that many of them candidates."""
        ...

    def on_stage(self, candidate_id: str, stage: str) -> None:
        """A candidate enters a stage."""
        ...

    def on_row(self, row: StageRow) -> None:
        """A stage of a candidate has ended."""
        ...

    def on_done(self, candidate_id: str, code: ReasonCode, *, known: bool) -> None:
        """A candidate is through: published (OK) or fallen; `known` when an earlier run already said so."""
        ...


class SilentObserver:
    """Shows nothing."""

    def on_message(self, text: str) -> None:
        """Show nothing."""

    def on_units(self, units: int, candidates: int, *, complete: bool) -> None:
        """Show nothing."""

    def on_stage(self, candidate_id: str, stage: str) -> None:
        """Show nothing."""

    def on_row(self, row: StageRow) -> None:
        """Show nothing."""

    def on_done(self, candidate_id: str, code: ReasonCode, *, known: bool) -> None:
        """Show nothing."""
