"""Many gradings, one JSON line each: shuffled, some side by side, and gone on with where an earlier run ended.

The order is shuffled by a seed, so what a run has done when its time is up is a fair sample of all that was asked for.
"""

import argparse
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import msgspec
from measuring.metering import Meter, MeteredProvider
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from envfarm.audit.cheat import CheatTarget
from envfarm.audit.target import read_target
from envfarm.formats.harbor import read_package
from envfarm.grading.contract import Verifier
from envfarm.grading.grade import GradingOptions, grade
from envfarm.images import prepare_image
from envfarm.records.image import Image
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import FIX_PATCH, TaskPackage
from envfarm.records.verdict import Outcome, Verdict
from envfarm.sandbox.contract import SandboxProvider
from envfarm.sandbox.local.provider import open_local_provider

NO_FIT = "no_fit"
_MOST_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class Case:
    """One grading that is wanted: `kind` says how it is graded, `name` what is handed in, `number` tells repeats."""

    task_id: str
    kind: str
    name: str
    number: int = 0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a case. `outcome` is a verdict's, or `NO_FIT` where there was nothing to hand in."""

    task: str
    digest: str
    library: str
    kind: str
    name: str
    number: int = 0
    outcome: str
    reward: float | None = None
    why: tuple[str, ...] = ()
    """Gates that were not content, with their words."""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of everything that ran in boxes."""
    test_cpu_seconds: float = 0.0
    """Of the runs of tests alone."""
    runs: int = 0
    """Runs of tests."""
    limit_seconds: float = 0.0
    """Bound on a run of tests where the bench set one; 0 for the task's own."""


@dataclass(frozen=True, kw_only=True)
class OpenTask:
    """A task that is ready to be graded."""

    package: TaskPackage = field(repr=False)
    target: CheatTarget = field(repr=False)
    image: Image = field(repr=False)

    @property
    def library(self) -> str:
        """The project's name."""
        return self.package.task.source.project

    @property
    def fix(self) -> bytes:
        """The true fix."""
        return self.package.files[FIX_PATCH]


@dataclass(frozen=True, kw_only=True)
class Handed:
    """What is handed in, and how it is graded."""

    patch: bytes
    verifier: Verifier | None = None
    options: GradingOptions | None = None
    package: TaskPackage | None = None
    """The task under other limits; None for the task as it is."""


Maker = Callable[[OpenTask, Case], Handed | None]


@dataclass(kw_only=True)
class Bench:
    """Grades cases and keeps their rows.

    Attributes:
        packages: The tasks.
        out: The file of rows; rows that it already has are not made again.
        cache: Cache folder of the images.
        jobs: How many gradings at a time.
        seconds: No grading is started later than that; None for no bound.
    """

    packages: Sequence[TaskPackage]
    out: Path
    cache: Path
    jobs: int = 2
    seconds: float | None = None
    _open: dict[str, OpenTask] = field(default_factory=dict)

    def rows(self) -> list[Row]:
        """Return the rows of these tasks as they are now, the last one of each case."""
        digests = {package.digest for package in self.packages}
        last = {
            (row.task, row.kind, row.name, row.number, row.limit_seconds): row
            for row in read_rows(self.out)
            if row.digest in digests
        }
        return list(last.values())

    async def run(self, cases: Iterable[Case], make: Maker) -> None:
        """Grade the cases that have no row yet."""
        ended = [row for row in self.rows() if row.outcome in {Outcome.SCORED, NO_FIT}]
        done = {(row.task, row.kind, row.name, row.number) for row in ended}
        left = [case for case in cases if (case.task_id, case.kind, case.name, case.number) not in done]
        random.Random(11).shuffle(left)  # noqa: S311 -- an order, not a secret
        until = time.monotonic() + self.seconds if self.seconds is not None else float("inf")
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True)) as progress, self.out.open("ab") as out:
            bar = progress.add_task("gradings", total=len(left))
            async with open_local_provider({}) as provider, anyio.create_task_group() as group:

                async def work() -> None:
                    while left and time.monotonic() < until:
                        row = await self._row(left.pop(), make, provider)
                        out.write(msgspec.json.encode(row) + b"\n")
                        out.flush()
                        progress.update(bar, advance=1, description=row.kind)

                for _ in range(self.jobs):
                    group.start_soon(work)

    async def each_task(self, work: Callable[[OpenTask, SandboxProvider], Awaitable[None]]) -> None:
        """Do something with each task in turn."""
        async with open_local_provider({}) as provider:
            for package in self.packages:
                await work(await self.open(package.task.task_id, provider), provider)

    async def open(self, task_id: str, provider: SandboxProvider) -> OpenTask:
        """Return a task with its image."""
        if task_id not in self._open:
            package = next(package for package in self.packages if package.task.task_id == task_id)
            image = await prepare_image(package, provider=provider, cache_folder=self.cache)
            self._open[task_id] = OpenTask(package=package, target=read_target(package), image=image)
        return self._open[task_id]

    async def _row(self, case: Case, make: Maker, provider: SandboxProvider) -> Row:
        task = await self.open(case.task_id, provider)
        handed = make(task, case)
        row = Row(
            task=case.task_id,
            digest=task.package.digest,
            library=task.library,
            kind=case.kind,
            name=case.name,
            number=case.number,
            outcome=NO_FIT,
        )
        if handed is None:
            return row
        verdict, seconds, meter = await grade_once(task, handed, provider)
        gates = [part for part in verdict.components if part.evidence.get("role") != "note"]
        notes = [part for part in verdict.components if part.evidence.get("role") == "note"]
        failed = [f"{part.name}: {part.rationale}"[:_MOST_CHARACTERS] for part in gates if part.value < 1.0]
        if verdict.failure is not None:
            failed.append(f"{verdict.failure.code}: {verdict.failure.message}"[:_MOST_CHARACTERS])
        return msgspec.structs.replace(
            row,
            outcome=str(verdict.outcome),
            reward=verdict.reward,
            limit_seconds=handed.package.task.tests.run_timeout_seconds if handed.package is not None else 0.0,
            why=tuple(failed),
            notes=tuple(f"{part.name}: {part.rationale}"[:_MOST_CHARACTERS] for part in notes if part.rationale),
            seconds=round(seconds, 3),
            cpu_seconds=round(meter.cpu_seconds, 3),
            test_cpu_seconds=round(meter.test_cpu_seconds, 3),
            runs=meter.test_runs,
        )


async def grade_once(task: OpenTask, handed: Handed, provider: SandboxProvider) -> tuple[Verdict, float, Meter]:
    """Return the verdict, the wall-clock seconds, and what the boxes used."""
    meter = Meter()
    package = handed.package or task.package
    submission = Submission(task_id=package.task.task_id, kind=SubmissionKind.PATCH, patch=handed.patch)
    started = time.monotonic()
    verdict = await grade(
        package,
        submission,
        provider=MeteredProvider(provider, meter),
        image=task.image,
        verifier=handed.verifier,
        options=handed.options,
    )
    return verdict, time.monotonic() - started, meter


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file; none where there is no file. A line that was cut by a kill is left out."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(msgspec.json.decode(line, type=Row))
        except msgspec.DecodeError:
            print(f"{path}: a line is no row: {line[:60]!r}", file=sys.stderr)
    return found


def find_packages(paths: Sequence[Path]) -> list[TaskPackage]:
    """Return the tasks of some folders, or of folders of folders."""
    folders = [file.parent for path in paths for file in [*path.glob("task.toml"), *path.rglob("*/task.toml")]]
    packages = [read_package(folder) for folder in sorted(dict.fromkeys(folders))]
    if not packages:
        sys.exit("no tasks there: name folders that `envfarm mine --out` made")
    return packages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what all benches over many gradings understand."""
    parser.add_argument("tasks", nargs="+", type=Path, help="task folders, or folders of task folders")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; gone on with when they are there")
    parser.add_argument("--cache", type=Path, help="cache folder of the images; one beside --out otherwise")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, help="start no grading later than that")
    parser.add_argument("--table", action="store_true", help="grade nothing, print the tables of --out")


def make_bench(options: argparse.Namespace) -> Bench:
    """Return the bench that the arguments ask for."""
    return Bench(
        packages=find_packages(options.tasks),
        out=options.out,
        cache=(options.cache or options.out.with_suffix(".cache")).absolute(),
        jobs=options.jobs,
        seconds=options.seconds,
    )
