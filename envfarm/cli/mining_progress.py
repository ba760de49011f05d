"""Shows a run of the miner: a live funnel on a terminal, plain lines elsewhere. Always on standard error."""

import time
from collections import Counter
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text


class EndedStage(Protocol):
    """What of a ledger row is shown."""

    @property
    def candidate_id(self) -> str:
        """The candidate."""
        ...

    @property
    def stage(self) -> str:
        """The stage."""
        ...

    @property
    def code(self) -> str:
        """How it ended."""
        ...

    @property
    def detail(self) -> str:
        """One line for people."""
        ...

    @property
    def seconds(self) -> float:
        """How long it took."""
        ...


class MiningProgress:
    """An observer of a run; use it as a context manager around the run."""

    def __init__(self, console: Console, *, limit: int | None) -> None:
        """Take where to show it, and how many candidates there can be at most."""
        self._console = console
        self._limit = limit
        self._started = time.monotonic()
        self._units = 0
        self._candidates = 0
        self._complete = False
        self._working: dict[str, str] = {}
        self._codes: Counter[str] = Counter()
        self._known = 0
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing; what was said stays."""
        if self._console.is_terminal:
            self._live.stop()

    def on_message(self, text: str) -> None:
        """Say one line."""
        self._console.print(Text(text, style="dim"), soft_wrap=True)

    def on_units(self, units: int, candidates: int, *, complete: bool) -> None:
        """Count what history gave."""
        self._units, self._candidates, self._complete = units, candidates, complete

    def on_stage(self, candidate_id: str, stage: str) -> None:
        """Note what a candidate is at."""
        self._working[candidate_id] = stage

    def on_row(self, row: EndedStage) -> None:
        """Note how a stage ended; rows are told in `on_done`."""

    def on_done(self, candidate_id: str, code: str, *, known: bool) -> None:
        """Count a candidate that is through, and say so unless an earlier run did."""
        self._working.pop(candidate_id, None)
        self._codes[code] += 1
        if known:
            self._known += 1
            return
        done = self._codes.total()
        word = Text("published", style="green") if code == "OK" else Text(code, style="yellow")
        line = Text(f"[{done}/{self._candidates}{'' if self._complete else '+'}] {candidate_id} ").append_text(word)
        self._console.print(line, soft_wrap=True)

    def _render(self) -> RenderableType:
        done, total = self._codes.total(), self._total()
        elapsed = time.monotonic() - self._started
        fresh = done - self._known
        rate = fresh / elapsed * 60 if fresh else 0.0
        left = f"{(total - done) / rate:.0f} min left" if rate and total > done else ""
        published = self._codes["OK"]
        table = Table.grid(padding=(0, 2))
        table.add_row(
            f"{self._units} units",
            f"{self._candidates} candidates",
            f"{done} done",
            Text(f"{published} published", style="green"),
            f"{rate:.1f}/min",
            left,
        )
        fallen = "  ".join(f"{code} {count}" for code, count in self._codes.most_common() if code != "OK")
        working = "  ".join(f"{name}: {stage}" for name, stage in self._working.items())
        bar = ProgressBar(total=max(total, 1), completed=done, width=60)
        return Group(bar, table, Text(fallen, style="yellow"), Text(working, style="dim"))

    def _total(self) -> int:
        if self._complete or self._limit is None:
            return self._candidates
        return max(self._limit, self._candidates)
