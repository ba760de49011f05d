"""`envfarm train pretrain`: a preset, a corpus, and a folder that is a checkpoint in the end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from envfarm.errors import MissingToolError
from envfarm.training.presets import PRESETS

if TYPE_CHECKING:
    from envfarm.training.train_step import StepReport

PRETRAIN_EXAMPLE = "Example: envfarm train pretrain --preset tiny --data corpus --out base"
_EXIT_STOPPED = 130
_LINE_EVERY = 50


def pretrain_command(  # noqa: PLR0913 -- every option is a parameter
    *,
    preset: Annotated[str, typer.Option(metavar="PRESET", help=f"What to train: {', '.join(sorted(PRESETS))}.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="A corpus, as fetch-corpus makes it.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run's folder: a checkpoint in the end.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that lies in --out.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the whole run; a resumed one may change them before its decay.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the CPU; on a busy machine 1 is best.")] = None,
    kernels: Annotated[bool, typer.Option(help="Whether our kernels may compute on a CPU; else torch does.")] = True,
    state_every: Annotated[int, typer.Option(min=1, help="Steps between two states on disk.")] = 100,
) -> None:
    """Pretrain a model, and leave a checkpoint that `envfarm model inspect` and `serve` take.

    A run that was killed goes on with --resume, and has the same losses as one that was not. SIGINT and SIGTERM end it
    after the step under way. The folder holds manifest.json (data, seed, steps, held-out bits per byte), journal.jsonl,
    loss.svg and expert_load.svg. Exit code 0: done; 130: stopped, to be resumed; 2: a user's mistake.
    """
    try:
        from envfarm.training.pretrain import Wish, pretrain
    except ModuleNotFoundError as error:
        message = f"{error.name} is missing: pip install envfarm[model]"
        raise MissingToolError(message) from error
    wish = Wish(
        preset=preset,
        data=data,
        out=out,
        steps=steps,
        state_every=state_every,
        device=device,
        threads=threads,
        kernels=kernels,
        resumes=resume,
    )
    with _Shown(Console(stderr=True)) as shown, _signals() as asked:
        done = pretrain(wish, shown, lambda: bool(asked))
    if not done:
        typer.echo(f"stopped: --resume goes on in {out}", err=True)
        raise typer.Exit(_EXIT_STOPPED)
    typer.echo(f"{out}: a checkpoint; envfarm model serve --model {out}")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Note signals that ask to stop, instead of being ended by them."""
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, _: asked.append(number))
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Shown:
    """A bar on a terminal, a line now and then elsewhere; use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def tell(self, phase: str) -> None:
        """Take note of what is being done."""
        self._bar.update(self._task, description=phase)
        if not self._console.is_terminal:
            self._console.print(phase)

    def stepped(self, report: "StepReport", steps: int) -> None:
        """Take note of a step out of so many."""
        mtp = " ".join(f"{loss:.3f}" for loss in report.mtp_losses)
        busiest = max((max(load) for load in report.loads), default=1.0)
        line = f"loss {report.loss:.3f} mtp {mtp} zeros {report.zero_gradients:,} busiest expert {busiest:.2f}"
        self._bar.update(self._task, total=steps, completed=report.step + 1, description=line)
        if not self._console.is_terminal and (report.step + 1) % _LINE_EVERY == 0:
            self._console.print(f"step {report.step + 1} of {steps}: {line}", highlight=False, soft_wrap=True)
