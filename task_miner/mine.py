"""mine(): a repository's history becomes validated tasks.

One thread reads history; as many candidates as asked for are worked on at a time; the ledger is written from the event
loop's thread alone. Ctrl-C and cancellation end every box and leave a ledger that the next run goes on from.
"""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from envfarm.errors import TaskError, only_error
from envfarm.formats.harbor import read_package
from envfarm.images import remove_unfinished, unfinished_folder
from envfarm.sandbox.contract import SandboxProvider
from task_miner.candidate_run import run_candidate, settled_code
from task_miner.candidate_work import Workshop
from task_miner.issues_file import IssueBook, describe_unread, read_issues
from task_miner.languages.python import PythonLanguage
from task_miner.ledger import Ledger, StageRow, open_ledger
from task_miner.options import MineOptions
from task_miner.output_folder import OutputFolder, claim_folder
from task_miner.reasons import ReasonCode, Stage
from task_miner.report import MineReport, Observer, PublishedTask
from task_miner.scan import ScanBatch, ScanRequest, known_screens, scan_history
from task_miner.sources import Source, open_source
from task_miner.sources.git_command import Downloads, GitEndedError
from task_miner.unit import Candidate

OPTIONS_FACT = "options"
_SIGNAL_SECONDS = 1.0


@dataclass
class _Tally:
    units: int = 0
    candidates: list[str] = field(default_factory=list)
    codes: dict[str, ReasonCode] = field(default_factory=dict)
    interrupted: bool = False


async def mine(
    options: MineOptions,
    open_provider: Callable[[], AbstractAsyncContextManager[SandboxProvider]],
    observer: Observer,
    stop: anyio.Event | None = None,
) -> MineReport:
    """Mine a repository, going on from where an earlier run into the same folder stopped.

    Args:
        options: What is asked for.
        open_provider: Opens the provider of sandboxes for the length of the run.
        observer: Is told what goes on.
        stop: Ends the run early when it is set (Ctrl-C, say); what is done is kept.

    Returns:
        What the run came to; `interrupted` says that it was ended early.

    Raises:
        UserError: The repository, the folder, an option or this machine is not fit.
    """
    started = time.monotonic()
    tally = _Tally()
    stop = stop or anyio.Event()
    await anyio.to_thread.run_sync(remove_unfinished, options.cache_folder)
    with claim_folder(options.out) as folder, ExitStack() as opened:
        issues = read_issues(options.issues) if options.issues else IssueBook()
        for line in describe_unread(issues):
            observer.on_message(line)
        source = await _open_source(options, observer, stop)
        if source is None:
            return _interrupted_report(options, time.monotonic() - started)
        ledger = opened.enter_context(open_ledger(options.out, create=True))
        workspaces = opened.enter_context(unfinished_folder(options.cache_folder / "workspaces", "mining"))
        ledger.set_fact(OPTIONS_FACT, options.as_fact())
        async with open_provider() as provider:
            language = PythonLanguage(provider=provider, cache_folder=options.cache_folder, cache_domain=source.key)
            shop = Workshop(
                options=options,
                source=source,
                folder=folder,
                ledger=ledger,
                language=language,
                provider=provider,
                observer=observer,
                issues=issues,
                boxes=anyio.CapacityLimiter(options.jobs),
                workspaces=workspaces,
            )
            try:
                await _scan_and_work(shop, tally, stop)
            except BaseExceptionGroup as group:
                raise only_error(group) from group
        return _report(options, folder, ledger, tally, time.monotonic() - started)


async def _open_source(options: MineOptions, observer: Observer, stop: anyio.Event) -> Source | None:
    """Return the repository, or None when the user wants to stop before it is there."""
    downloads = Downloads()

    def say(text: str) -> None:
        if stop.is_set():
            message = "the user wants to stop"
            raise GitEndedError(message)
        observer.on_message(text)

    async def end_downloads() -> None:
        await stop.wait()
        downloads.end()

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(end_downloads)
            source = await anyio.to_thread.run_sync(
                lambda: open_source(options.repo, cache_folder=options.cache_folder, report=say, downloads=downloads)
            )
            group.cancel_scope.cancel()
    except ExceptionGroup as group_error:
        error = only_error(group_error)
        if not isinstance(error, GitEndedError):
            raise error from group_error
        with anyio.move_on_after(_SIGNAL_SECONDS):  # Ctrl-C reaches git and us; git may be the quicker one
            await stop.wait()
        if not stop.is_set():
            raise error from group_error
        return None
    return None if stop.is_set() else source


async def _scan_and_work(shop: Workshop, tally: _Tally, stop: anyio.Event) -> None:
    send, receive = anyio.create_memory_object_stream[Candidate](max_buffer_size=float("inf"))
    async with anyio.create_task_group() as outer:
        outer.start_soon(_watch, stop, tally, outer.cancel_scope)
        async with anyio.create_task_group() as group:
            group.start_soon(_scan, shop, send, tally)
            for _ in range(shop.options.jobs):
                group.start_soon(_work, shop, receive.clone(), tally)
            receive.close()
        outer.cancel_scope.cancel()


async def _watch(stop: anyio.Event, tally: _Tally, scope: anyio.CancelScope) -> None:
    await stop.wait()
    tally.interrupted = True
    scope.cancel()


async def _scan(shop: Workshop, send: MemoryObjectSendStream[Candidate], tally: _Tally) -> None:
    rules = shop.options.rules()
    rows = [row for stage in (Stage.SCAN, Stage.SCREEN) for row in shop.ledger.rows_in(stage)]
    request = ScanRequest(
        source=shop.source,
        options=shop.options,
        language=shop.language,
        known=known_screens((row for row in rows if row.source == shop.source.key), rules),
    )

    async def take(batch: ScanBatch) -> None:
        if batch.rows:
            shop.ledger.put(batch.rows)
        tally.units += batch.units
        for candidate in batch.candidates:
            tally.candidates.append(candidate.candidate_id)
            await send.send(candidate)
        shop.observer.on_units(tally.units, len(tally.candidates), complete=False)

    async with send:
        await anyio.to_thread.run_sync(
            scan_history, request, lambda batch: anyio.from_thread.run(take, batch), abandon_on_cancel=False
        )
    shop.observer.on_units(tally.units, len(tally.candidates), complete=True)


async def _work(shop: Workshop, receive: MemoryObjectReceiveStream[Candidate], tally: _Tally) -> None:
    async with receive:
        async for candidate in receive:
            name = candidate.candidate_id
            known = settled_code(shop.ledger.rows_of(name), shop.options.rules(), shop.folder.task(name))
            code = await run_candidate(shop, candidate) if known is None else known
            tally.codes[name] = code
            shop.observer.on_done(name, code, known=known is not None)


def _report(options: MineOptions, folder: OutputFolder, ledger: Ledger, tally: _Tally, seconds: float) -> MineReport:
    validated = [name for name in tally.candidates if _passed(ledger.rows_of(name), Stage.VALIDATE, options.rules())]
    published = [name for name in tally.candidates if tally.codes.get(name) is ReasonCode.OK]
    fallen = Counter(str(code) for code in tally.codes.values() if code is not ReasonCode.OK)
    return MineReport(
        repo=options.repo,
        candidates=len(tally.candidates),
        validated=len(validated),
        published=len(published),
        rejected=dict(sorted(fallen.items())),
        seconds=seconds,
        tasks=tuple(task for name in published if (task := _published_task(folder.task(name))) is not None),
        interrupted=tally.interrupted,
    )


def _interrupted_report(options: MineOptions, seconds: float) -> MineReport:
    return MineReport(
        repo=options.repo,
        candidates=0,
        validated=0,
        published=0,
        rejected={},
        seconds=seconds,
        tasks=(),
        interrupted=True,
    )


def _passed(rows: tuple[StageRow, ...], stage: Stage, rules: str) -> bool:
    return any(row.stage is stage and row.code is ReasonCode.OK and row.rules == rules for row in rows)


def _published_task(path: Path) -> PublishedTask | None:
    try:
        task = read_package(path).task
    except TaskError:
        return None
    return PublishedTask(
        task_id=task.task_id,
        path=str(path),
        fail_to_pass=task.tests.fail_to_pass,
        pass_to_pass=task.tests.pass_to_pass,
        statement_source=task.statement.source,
        links=tuple(f"{link.kind}:{link.number}" for link in task.source.links),
    )
