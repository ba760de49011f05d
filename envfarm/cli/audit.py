"""`envfarm audit`: tries the whole cheat collection on a task, and says which cheats its verifier pays for."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from envfarm.audit.cheat import Cheat, Family
from envfarm.audit.collection import CHEATS, HONEST, cheat_table, choose_cheats, choose_honest
from envfarm.audit.trial import OURS, PLAIN, THEIRS, CheatResult, Trial, TriesCheats, try_cheats
from envfarm.errors import UserError

if TYPE_CHECKING:
    from envfarm.sandbox.contract import SandboxProviderFactory
    from envfarm.settings import Settings

_EXIT_ACCEPTED = 1
_STYLES = {"accepted": "bold red", "refused": "green", "-": "dim"}
_HONEST_STYLES = {"accepted": "green", "refused": "bold red", "-": "dim"}
_EXAMPLES = """Examples:

envfarm audit mined/tasks/tabulate-1a2b3c

envfarm audit mined/tasks/tabulate-1a2b3c --verifier ours --jobs 4 --json

envfarm audit mined/tasks/tabulate-1a2b3c --cheat conftest_outcomes --cheat process_exit --with-fix

envfarm audit mined/tasks/tabulate-1a2b3c --honest
"""


class Judges(StrEnum):
    """Which verifiers are asked."""

    OURS = "ours"
    PLAIN = "plain"
    BOTH = "both"


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What the command line asks for."""

    task: Path
    cheats: Sequence[Cheat]
    judges: Judges
    jobs: int
    with_fix: bool
    sandbox: str | None
    cache: Path | None
    reward_key: str | None
    honest: bool
    console: Console = field(default_factory=lambda: Console(stderr=True), repr=False)

    @property
    def is_foreign(self) -> bool:
        from envfarm.foreign.form import form_of

        return form_of(self.task).is_foreign

    @property
    def verifiers(self) -> tuple[str, ...]:
        if self.is_foreign:
            return (THEIRS,)
        return (OURS, PLAIN) if self.judges is Judges.BOTH else (str(self.judges),)

    def check(self) -> None:
        """Refuse what contradicts itself."""
        message = ""
        if self.is_foreign and (self.honest or self.judges is Judges.PLAIN):
            message = "--honest and --verifier plain ask about tasks of ours: this one is another maker's"
        elif self.honest and self.judges is Judges.PLAIN:
            message = "--honest asks whether the task's own verifier is too strict: take --verifier ours or both"
        if message:
            raise UserError(message)


def audit_command(  # noqa: PLR0913 -- one parameter for each option
    task: Annotated[Path | None, typer.Argument(metavar="TASK", help="A task's folder.")] = None,
    *,
    verifier: Annotated[
        Judges, typer.Option("--verifier", help="Ask the task's own verifier, the field's usual way, or both.")
    ] = Judges.BOTH,
    cheat: Annotated[
        list[str] | None, typer.Option("--cheat", metavar="NAME", help="Try only this cheat; may be given again.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="How many cheats to try at a time.")] = 1,
    with_fix: Annotated[
        bool, typer.Option("--with-fix", help="Hand in the true fix beside each cheat: harmless ones have to score 1.")
    ] = False,
    honest: Annotated[
        bool,
        typer.Option("--honest", help="Hand in honest rewritings of the true fix, and no cheat: all have to pass."),
    ] = False,
    sandbox: Annotated[
        str | None, typer.Option("--sandbox", help="Which sandbox to use: local or docker [default: local].")
    ] = None,
    cache: Annotated[Path | None, typer.Option("--cache", metavar="DIR", help="Cache folder.")] = None,
    reward_key: Annotated[
        str | None,
        typer.Option("--reward-key", metavar="KEY", help="Which of several rewards of a Harbor task is the reward."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Print the table of all cheats and leave.")] = False,
) -> None:
    """Try the cheat collection on a task, each cheat in fresh boxes, and say which ones its verifier pays for.

    Column `ours` is the task's verifier; column `plain` the field's usual way: the diff applied, the hidden tests
    copied over, `python -m pytest` with everything that it finds, and its exit code, reward file or log believed.
    A dash stands where a cheat does not fit the task. With --honest the true fix is handed in, written in other ways.

    Another maker's Harbor or SWE-bench task is asked in containers, with its own verifier: column `theirs`.

    Exit code 0: the task's verifier accepts none; 1: it accepts some (or refuses an honest submission that the usual
    way pays for); 2: a user's mistake.
    """
    if list_:
        sys.stdout.write(cheat_table())
        return
    if task is None:
        message = "name a task's folder: envfarm audit TASK"
        raise UserError(message)
    wish = _Wish(
        task=task,
        cheats=(choose_honest if honest else choose_cheats)(cheat or ()),
        judges=verifier,
        jobs=jobs,
        with_fix=with_fix or honest,
        honest=honest,
        sandbox=sandbox,
        cache=cache,
        reward_key=reward_key,
    )
    wish.check()
    _tell(anyio.run(_audit, wish), wish, as_json=json_)


def _tell(results: Sequence[CheatResult], wish: _Wish, *, as_json: bool) -> None:
    """Print the results; leave with 1 where one of them is wrong."""
    if as_json:
        sys.stdout.write(json.dumps(_as_json(results, wish)) + "\n")
    else:
        _print_results(Console(), results, wish.verifiers)
    if any(result.is_wrong for result in results):
        raise typer.Exit(_EXIT_ACCEPTED)


async def _audit(wish: _Wish) -> tuple[CheatResult, ...]:
    from envfarm.audit.open_task import open_task
    from envfarm.audit.target import read_target
    from envfarm.images import prepare_image
    from envfarm.plugins import SANDBOXES, load_plugin
    from envfarm.settings import load_settings

    settings = load_settings(Path.cwd(), os.environ)
    if wish.is_foreign:
        return await _audit_foreign(wish, settings)
    package = open_task(wish.task)
    target = read_target(package)
    chosen = settings.sandbox.chosen(wish.sandbox)
    open_provider: SandboxProviderFactory = load_plugin(SANDBOXES, chosen.provider)
    async with open_provider(chosen.options) as provider:
        cache = (wish.cache or settings.cache_folder).absolute()
        image = await prepare_image(package, provider=provider, cache_folder=cache, report=wish.console.print)
        trial = Trial(
            package=package,
            target=replace(target, with_fix=wish.with_fix),
            provider=provider,
            image=image,
            verifiers=wish.verifiers,
        )
        return await _try(trial, wish)


async def _audit_foreign(wish: _Wish, settings: "Settings") -> tuple[CheatResult, ...]:
    from envfarm.audit.foreign_trial import open_trial
    from envfarm.cli.foreign import ForeignPlace, open_place
    from envfarm.foreign.open_task import open_foreign

    task = open_foreign(wish.task)
    place = ForeignPlace.of(settings, wish.sandbox, reward_key=wish.reward_key)
    async with open_place(place) as (provider, images):
        trial = await open_trial(task, provider=provider, images=images, options=place.options, with_fix=wish.with_fix)
        return await _try(trial, wish)


async def _try(trial: TriesCheats, wish: _Wish) -> tuple[CheatResult, ...]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=wish.console, transient=True) as progress:
        bar = progress.add_task("cheats", total=len(wish.cheats))

        def told(result: CheatResult) -> None:
            progress.update(bar, advance=1, description=result.cheat.name)

        return await try_cheats(trial, wish.cheats, jobs=wish.jobs, told=told)


def _as_json(results: Sequence[CheatResult], wish: _Wish) -> dict[str, Any]:
    rows = [
        {
            "name": result.cheat.name,
            "family": str(result.cheat.family),
            "blanket": result.cheat.blanket,
            **{name: result.word(name) for name in wish.verifiers},
            "why": {name: _why(result, name) for name in wish.verifiers if name in result.verdicts},
        }
        for result in results
    ]
    accepted = {name: [row["name"] for row in rows if row[name] == "accepted"] for name in wish.verifiers}
    return {"with_fix": wish.with_fix, "cheats": len(results), "accepted": accepted, "rows": rows}


def _why(result: CheatResult, verifier: str) -> str:
    """Return the first reason against it, or what spoke for it in the usual way."""
    verdict = result.verdicts[verifier]
    if verdict.failure is not None:
        return verdict.failure.message
    wanted = 1.0 if verdict.reward and verifier == PLAIN else 0.0
    gates = (component for component in verdict.components if component.evidence.get("role") != "note")
    return next((f"{item.name}: {item.rationale}" for item in gates if item.value == wanted), "")


def _print_results(console: Console, results: Sequence[CheatResult], verifiers: Sequence[str]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("cheat", "family", *verifiers):
        table.add_column(name)
    for result in results:
        styles = _HONEST_STYLES if result.cheat.family is Family.HONEST else _STYLES
        words = [Text(word, styles.get(word, "yellow")) for word in map(result.word, verifiers)]
        table.add_row(result.cheat.name, str(result.cheat.family), *words)
    console.print(table)
    fitting = sum(bool(result.verdicts) for result in results)
    is_honest = any(result.cheat.family is Family.HONEST for result in results)
    known = f"{len(HONEST)} honest variants" if is_honest else f"{len(CHEATS)} cheats"
    for name in verifiers:
        count = sum(result.word(name) == "accepted" for result in results)
        console.print(f"{name} accepts {count} of {fitting} submissions; the collection has {known}")
