"""`envfarm grade`: one submission to one task becomes a verdict that says why."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from envfarm.errors import BoundaryError, UserError
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.verdict import Outcome, Verdict
from envfarm.records.versioned import encode_line

if TYPE_CHECKING:
    from envfarm.foreign.request import Work
    from envfarm.records.image import Image
    from envfarm.records.task import TaskPackage
    from envfarm.sandbox.contract import SandboxProviderFactory
    from envfarm.settings import Settings

_EXIT_UNSCORED = 1
_STANDARD_INPUT = "-"
_EXAMPLES = """Examples:

envfarm grade mined/tasks/tabulate-1a2b3c --oracle

envfarm grade mined/tasks/tabulate-1a2b3c --patch fix.diff --json

git diff | envfarm grade mined/tasks/tabulate-1a2b3c --patch -

envfarm grade somebodys-harbor-task --oracle
"""


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What the command line asks to be graded; exactly one of them."""

    patch: Path | None
    workspace: Path | None
    oracle: bool
    no_op: bool

    def check(self) -> None:
        given = [self.patch is not None, self.workspace is not None, self.oracle, self.no_op]
        if sum(given) != 1:
            message = "say what to grade: exactly one of --patch FILE, --workspace DIR, --oracle, --no-op"
            raise UserError(message)
        if self.workspace is not None and not self.workspace.is_dir():
            message = f"--workspace {self.workspace} is no folder: name a changed copy of the task's workspace"
            raise UserError(message)

    def read_patch(self) -> bytes:
        """Return the patch that was handed in; empty where there is none."""
        if self.patch is None:
            return b""
        if str(self.patch) == _STANDARD_INPUT:
            return sys.stdin.buffer.read()
        try:
            return self.patch.read_bytes()
        except OSError as error:
            message = f"--patch {self.patch} cannot be read ({error.strerror}): name a file with a unified diff"
            raise UserError(message) from error

    def foreign_work(self) -> "Work":
        """Return what is asked for, as work on a task of another maker's."""
        from envfarm.foreign.request import Work, WorkKind
        from envfarm.foreign.workspace import pack_workspace

        if self.workspace is not None:
            return Work(kind=WorkKind.WORKSPACE, content=pack_workspace(self.workspace))
        if self.patch is not None:
            return Work(kind=WorkKind.PATCH, content=self.read_patch())
        return Work(kind=WorkKind.ORACLE if self.oracle else WorkKind.NO_OP)


def grade_command(  # noqa: PLR0913 -- one per option
    task: Annotated[Path, typer.Argument(metavar="TASK", help="A task's folder.")],
    *,
    patch: Annotated[
        Path | None, typer.Option("--patch", metavar="FILE", help="Grade a unified diff; - for standard input.")
    ] = None,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", metavar="DIR", help="Grade a changed copy of the task's workspace.")
    ] = None,
    oracle: Annotated[bool, typer.Option("--oracle", help="Grade the task's own true fix.")] = False,
    no_op: Annotated[bool, typer.Option("--no-op", help="Grade no change at all.")] = False,
    sandbox: Annotated[
        str | None, typer.Option("--sandbox", help="Which sandbox to grade in: local or docker [default: local].")
    ] = None,
    cache: Annotated[Path | None, typer.Option("--cache", metavar="DIR", help="Cache folder.")] = None,
    level: Annotated[
        str | None,
        typer.Option("--level", help="fast, standard or strict: what is done against cheats [default: standard]."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", metavar="DIR", help="Keep finished runs there; a grading that was killed goes on from them."
        ),
    ] = None,
    reward_key: Annotated[
        str | None,
        typer.Option("--reward-key", metavar="KEY", help="Which of several rewards of a Harbor task is the reward."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what each check saw, where, and what the true fix shows.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the verdict as one JSON object.")] = False,
) -> None:
    """Grade one submission to a task: 1.0, or 0.0 with the reason, or no reward where something else failed.

    The submission runs in a fresh sandbox without network. What it changes of the grader's own files (tests,
    conftest.py, configuration of the runner, start-up files) has no effect.

    A Harbor task of another maker, or a task of a SWE-bench task repository, is run in containers, as its own files say
    (docs/foreign-tasks.md).

    Exit code 0: scored; 1: unscored; 2: a user's mistake.
    """
    wish = _Wish(patch=patch, workspace=workspace, oracle=oracle, no_op=no_op)
    wish.check()
    place = _Place(sandbox=sandbox, cache=cache, level=level, resume=resume, reward_key=reward_key)
    verdict = anyio.run(_grade, task, wish, place)
    if json_:
        sys.stdout.write(encode_line(verdict).decode())
    else:
        console = Console()
        _print_verdict(console, verdict)
        if explain:
            _print_evidence(console, verdict)
    if verdict.outcome is not Outcome.SCORED:
        raise typer.Exit(_EXIT_UNSCORED)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where and how to grade; None for what the settings say."""

    sandbox: str | None
    cache: Path | None
    level: str | None
    resume: Path | None
    reward_key: str | None


async def _grade(task: Path, wish: _Wish, place: _Place) -> Verdict:
    from envfarm.foreign.form import form_of
    from envfarm.formats.harbor import read_package
    from envfarm.grading.grade import GradingOptions, grade, make_unscored
    from envfarm.grading.level import choose_level
    from envfarm.images import find_image, prepare_image
    from envfarm.plugins import SANDBOXES, load_plugin
    from envfarm.settings import load_settings

    settings = load_settings(Path.cwd(), os.environ)
    if form_of(task).is_foreign:
        return await _grade_foreign(task, wish, place, settings)
    if place.reward_key is not None:
        message = "--reward-key is for Harbor tasks of other makers: this one has one reward"
        raise UserError(message)
    package = read_package(task)
    patch = wish.read_patch()
    level = choose_level(place.level or settings.grading.level, settings.grading.mixed_runs)
    chosen = settings.sandbox.chosen(place.sandbox)
    open_provider: SandboxProviderFactory = load_plugin(SANDBOXES, chosen.provider)
    async with open_provider(chosen.options) as provider:
        cache_folder, report = (place.cache or settings.cache_folder).absolute(), Console(stderr=True).print
        try:
            image = None
            if wish.workspace is None:
                image = await find_image(package, provider, cache_folder, report=report)
            image = image or await prepare_image(package, provider=provider, cache_folder=cache_folder, report=report)
        except BoundaryError as error:
            return make_unscored(package, error, phase="image")
        submission = await _make_submission(wish, patch, package, image)
        how = GradingOptions(retries=settings.grading.retries, level=level, resume_folder=place.resume)
        return await grade(package, submission, provider=provider, image=image, options=how)


async def _grade_foreign(task: Path, wish: _Wish, place: _Place, settings: "Settings") -> Verdict:
    from envfarm.cli.foreign import ForeignPlace, grade_foreign_task
    from envfarm.foreign.open_task import open_foreign

    for option, value in {"--level": place.level, "--resume": place.resume}.items():
        if value is not None:
            message = f"{option} is for tasks of ours: another maker's verifier decides by itself what it does"
            raise UserError(message)
    where = ForeignPlace.of(settings, place.sandbox, reward_key=place.reward_key)
    return await grade_foreign_task(open_foreign(task), wish.foreign_work(), where)


async def _make_submission(wish: _Wish, patch: bytes, package: "TaskPackage", image: "Image") -> Submission:
    from envfarm.grading.workspace_diff import diff_workspace
    from envfarm.sandbox.contract import WORKSPACE

    kind = SubmissionKind.ORACLE if wish.oracle else SubmissionKind.NO_OP if wish.no_op else SubmissionKind.PATCH
    if wish.workspace is not None:
        base = next((folder.source for folder in image.folders if folder.target == str(WORKSPACE)), None)
        if base is None:
            message = "--workspace needs a sandbox that keeps workspaces on this machine: hand in --patch FILE instead"
            raise UserError(message)
        patch = await diff_workspace(Path(base), wish.workspace)
    return Submission(task_id=package.task.task_id, kind=kind, patch=patch)


def _print_verdict(console: Console, verdict: Verdict) -> None:
    head = Text(f"{verdict.task_id}  ")
    if verdict.outcome is Outcome.SCORED:
        head.append(f"reward {verdict.reward:g}", style="bold green" if verdict.reward else "bold red")
    else:
        head.append(str(verdict.outcome).upper(), style="bold yellow")
    console.print(head)
    table = Table.grid(padding=(0, 2))
    for component in verdict.components:
        is_note = component.evidence.get("role") == "note"
        if is_note and component.value == 1.0:
            continue
        word = Text("note", "cyan") if is_note else Text("ok", "green") if component.value else Text("NO", "red")
        table.add_row(word, Text(component.name), Text("\n".join(component.rationale.split("; "))))
        if is_note:
            for path, what in component.evidence.items():
                if path != "role":
                    table.add_row("", "", Text(f"{path}: {what}", style="dim"))
    console.print(table)
    if verdict.failure is not None:
        failure = verdict.failure
        again = "trying again may help" if failure.retryable else "trying again will not help"
        console.print(Text(f"{failure.code} while at {failure.phase}, by the {failure.attribution}; {again}"))
        console.print(Text(failure.message))
    seconds = ", ".join(f"{name} {value:.2f} s" for name, value in verdict.seconds.items())
    console.print(Text(seconds, style="dim"))


def _print_evidence(console: Console, verdict: Verdict) -> None:
    """Print all that stands behind the components; what the true fix shows as well is no part of it."""
    console.print()
    for component in verdict.components:
        facts = {name: what for name, what in component.evidence.items() if name != "role"}
        if not facts:
            continue
        console.print(Text(component.name, style="bold"))
        for name, what in facts.items():
            console.print(Text(f"  {name}: {what}"))
    if verdict.provenance is not None:
        made = verdict.provenance
        console.print(Text(f"judged by {made.verifier} {made.verifier_version} at level {made.level}", style="dim"))
    console.print(Text("Alarms are what the true fix's own run did not show when the task was published.", style="dim"))
