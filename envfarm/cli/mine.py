"""`envfarm mine`: a repository's history becomes validated tasks."""

import hashlib
import json
import os
import signal
import sys
from datetime import date, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from envfarm.cli.mining_progress import MiningProgress
from envfarm.errors import OutputFolderError, UserError
from envfarm.plugins import SANDBOXES, load_plugin
from envfarm.settings import SandboxSettings, load_settings
from task_miner.ledger import open_ledger
from task_miner.mine import mine
from task_miner.options import MineOptions
from task_miner.reasons import ReasonCode
from task_miner.report import MineReport

_OPTIONS_FACT = "options"
_EXIT_NOTHING_PUBLISHED = 1
_EXIT_INTERRUPTED = 130
_EXAMPLES = """Examples:

envfarm mine --repo . --out mined --limit 20

envfarm mine --repo https://example.org/project.git --out mined --since 2024-01-01

envfarm mine --repo 'pypi:tabulate[0.8..0.9]' --out mined --json
"""


class Cutoff(StrEnum):
    """How young a dependency may be."""

    COMMIT = "commit"
    NONE = "none"


def mine_command(  # noqa: PLR0913 -- one parameter per command-line option; MineOptions is the record of them
    *,
    repo: Annotated[
        str, typer.Option("--repo", help="A clone, a git URL, a git bundle, or pypi:NAME[A..B].", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Output folder; an interrupted run goes on in it.")],
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Most candidates taken, newest first.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="Oldest fix, such as 2024-01-31.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="DATE", help="Youngest fix.")] = None,
    runs: Annotated[int | None, typer.Option("--runs", min=3, help="Validation runs before and after the fix.")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Candidates at a time [default: cores].")] = None,
    issues: Annotated[
        Path | None, typer.Option("--issues", help="Dump of issues and pull requests (JSON lines).", dir_okay=False)
    ] = None,
    cutoff: Annotated[
        Cutoff | None, typer.Option("--cutoff", help="No dependency younger than the commit, or no bound.")
    ] = None,
    sandbox: Annotated[
        str | None, typer.Option("--sandbox", help="Which sandbox to mine in: local or docker [default: local].")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Mine a repository's history into verified tasks.

    Needs a clone and nothing else: no API, no key, no model. Untrusted code runs in a sandbox only. What is done is
    kept: the same command goes on after Ctrl-C or a crash, and takes seconds when nothing is new.
    """
    settings = load_settings(Path.cwd(), os.environ)
    options = MineOptions(
        repo=_absolute(repo),
        out=out.absolute(),
        cache_folder=settings.cache_folder,
        limit=limit,
        since=_checked_date("--since", since),
        until=_checked_date("--until", until),
        runs=runs or settings.mine.runs,
        jobs=jobs or settings.mine.jobs or os.cpu_count() or 1,
        issues=issues.absolute() if issues else None,
        issues_digest=_digest_of(issues),
        cutoff=(cutoff or settings.mine.cutoff),
        mutants=settings.mine.mutants,
        run_timeout_seconds=settings.mine.run_timeout_seconds,
        test_timeout_seconds=settings.mine.test_timeout_seconds,
    )
    _mine_and_tell(options, settings.sandbox.chosen(sandbox), json_=json_)


def mine_again(folder: Path, reason: ReasonCode, *, forget_only: bool, json_: bool) -> None:
    """Forget the candidates that fell with `reason`, and mine with the options that the folder was mined with.

    Raises:
        OutputFolderError: The folder does not say how it was mined.
    """
    with open_ledger(folder, create=False) as ledger:
        kept = ledger.fact(_OPTIONS_FACT)
        forgotten = ledger.forget(reason)
    Console(stderr=True).print(f"{len(forgotten)} candidates with {reason} are taken again")
    if forget_only or not forgotten:
        return
    if kept is None:
        message = f"{folder} does not say how it was mined: run `envfarm mine --out {folder}` with its options"
        raise OutputFolderError(message)
    told = json.loads(kept)
    settings = load_settings(Path.cwd(), os.environ)
    issues = Path(told["issues"]) if told["issues"] else None
    now = {"out": folder.absolute(), "issues": issues, "issues_digest": _digest_of(issues)}
    options = MineOptions(**told | now, cache_folder=settings.cache_folder)
    _mine_and_tell(options, settings.sandbox, json_=json_)


def _mine_and_tell(options: MineOptions, sandbox: SandboxSettings, *, json_: bool) -> None:
    console = Console(stderr=True)
    with MiningProgress(console, limit=options.limit) as progress:
        report = anyio.run(_mine_until_interrupted, options, sandbox, progress)
    if json_:
        sys.stdout.write(json.dumps(report.as_json()) + "\n")
    _print_report(console, report, options.out)
    if report.interrupted:
        raise typer.Exit(_EXIT_INTERRUPTED)
    if not report.published:
        raise typer.Exit(_EXIT_NOTHING_PUBLISHED)


async def _mine_until_interrupted(
    options: MineOptions, sandbox: SandboxSettings, progress: MiningProgress
) -> MineReport:
    stop = anyio.Event()
    open_provider = load_plugin(SANDBOXES, sandbox.provider)

    async def watch() -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                progress.on_message("stopping: what is done is kept")
                stop.set()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        report = await mine(options, partial(open_provider, sandbox.options), progress, stop)
        group.cancel_scope.cancel()
    return report


def _print_report(console: Console, report: MineReport, out: Path) -> None:
    table = Table(Column("task", no_wrap=True), "fail to pass", "pass to pass", "statement from", "links")
    for task in report.tasks:
        counts = (str(len(task.fail_to_pass)), str(len(task.pass_to_pass)))
        table.add_row(task.task_id, *counts, task.statement_source, " ".join(task.links))
    if report.tasks:
        console.print(table)
    fallen = ", ".join(f"{code} {count}" for code, count in report.rejected.items()) or "none"
    console.print(
        f"{report.candidates} candidates, {report.validated} validated, [green]{report.published} published[/green], "
        f"fallen: {fallen} ({report.seconds:.1f} s)",
        highlight=False,
        soft_wrap=True,
    )
    said = ""
    if report.interrupted:
        said = "interrupted: what is done is kept; run the same command again to go on"
    elif not report.candidates:
        said = "no commit in these bounds changes both source and tests so that a test could see it"
    elif not report.published:
        said = f"nothing was published: `envfarm ledger status {escape(str(out))} --list` says why"
    if said:
        console.print(said, soft_wrap=True)


def _absolute(repo: str) -> str:
    """Return a path as it is named from anywhere, so that `ledger retry` may run in another folder."""
    path = Path(repo).expanduser()
    return str(path.absolute()) if repo and path.exists() else repo


def _checked_date(option: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        try:
            return datetime.fromisoformat(text).isoformat()
        except ValueError as error:
            message = f"{option} {text!r} is not a date: write it as 2024-01-31, or 2024-01-31T12:00:00+00:00"
            raise UserError(message) from error


def _digest_of(issues: Path | None) -> str:
    if issues is None:
        return ""
    try:
        return hashlib.sha256(issues.read_bytes()).hexdigest()[:16]
    except OSError as error:
        message = f"--issues {issues} cannot be read ({error.strerror}): name a file of JSON lines"
        raise UserError(message) from error
