"""`envfarm task`: check, show, export and import tasks."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from envfarm.errors import TaskError, UserError
from envfarm.formats.foreign import read_foreign, write_foreign_tasks
from envfarm.formats.foreign_rows import ROW_FILE, read_imported, read_rows, write_foreign
from envfarm.formats.harbor import read_package
from envfarm.formats.json_text import render_json
from envfarm.formats.lint import lint_task
from envfarm.formats.lint_problem import NOTE
from envfarm.formats.swebench_repository import read_repository, write_repository
from envfarm.formats.swebench_rows import to_row, write_lines
from envfarm.records.task import TASK_FILE, Protection

task_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Check, show, export and import tasks.",
)

_EXIT_PROBLEMS = 2
Paths = Annotated[
    list[Path], typer.Argument(metavar="PATH...", help="Task folders, or folders that hold task folders.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class ImportFormat(StrEnum):
    """What tasks are imported from."""

    HARBOR = "harbor"
    REPOSITORY = "swebench-repo"
    ROWS = "rows"


class ExportFormat(StrEnum):
    """What tasks are exported to."""

    JSONL = "swebench-jsonl"
    REPOSITORY = "swebench-repo"


@task_app.command("check", epilog="Example: envfarm task check mined/tasks")
def check_command(
    paths: Paths,
    *,
    notes: Annotated[bool, typer.Option("--notes", help="Say also what Harbor leaves out by default.")] = False,
    json_: AsJson = False,
) -> None:
    """Apply Harbor's lint ids and our own; exit code 2 when there are errors."""
    found = {str(folder): lint_task(folder) for folder in _task_folders(paths)}
    errors = sum(problem.severity == "error" for problems in found.values() for problem in problems)
    if json_:
        told = {folder: [asdict(problem) for problem in problems] for folder, problems in found.items()}
        sys.stdout.write(json.dumps({"tasks": len(found), "errors": errors, "problems": told}) + "\n")
    else:
        for folder, problems in found.items():
            for problem in (item for item in problems if notes or item.severity != NOTE):
                place = f"{folder}/{problem.file}" + (f":{problem.line}" if problem.line else "")
                sys.stdout.write(f"{place}: {problem.severity} [{problem.rule}] {problem.message}\n")
        sys.stdout.write(f"{len(found)} tasks, {errors} errors\n")
    if errors:
        raise typer.Exit(_EXIT_PROBLEMS)


@task_app.command("show", epilog="Example: envfarm task show mined/tasks/sqlparse-3b32dcd6770a")
def show_command(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A task folder.")], *, json_: AsJson = False
) -> None:
    """Show what a task says: statement, where it comes from, environment, tests, what the gate measured."""
    package = read_package(path)
    task = package.task
    if json_:
        import msgspec

        sys.stdout.buffer.write(msgspec.json.encode(task) + b"\n")
        return
    console = Console()
    console.print(Text(task.task_id, style="bold"), Text(package.digest, style="dim"))
    console.print(Markdown(task.statement.text))
    table = Table.grid(padding=(0, 2))
    mutation = task.quality.mutation
    rows = {
        "statement from": task.statement.source,
        "base, fix": f"{task.source.base_commit[:12]}, {task.source.fix_commit[:12]} ({task.source.committed_at})",
        "links": " ".join(f"{link.kind}:{link.number}" for link in task.source.links) or "none",
        "environment": f"{task.environment.environment_id}, as of {task.environment.cutoff or 'the day of mining'}",
        "test files": " ".join(task.tests.paths),
        "fail to pass": str(len(task.tests.fail_to_pass)),
        "pass to pass": str(len(task.tests.pass_to_pass)),
        "mutants killed": f"{mutation.killed} of {mutation.mutants}" if mutation else "not measured",
        "functions protected by": _protection(task.quality.protection),
    }
    for name, value in rows.items():
        table.add_row(Text(name, style="dim"), Text(str(value)))
    console.print(table)
    gate = Table("control", "has to score", "scored", "checks that were not content")
    for control in task.quality.controls:
        scored = " ".join(f"{reward:g}" for reward in control.rewards)
        gate.add_row(control.name, f"{control.expected_reward:g}", scored, control.reason)
    console.print(gate)


def _protection(found: Protection | None) -> str:
    if found is None:
        return "not calibrated"
    counts = {
        "values outside": found.values,
        "strong twins": found.strong_twins,
        "weak twins": found.weak_twins,
        "nothing": found.none,
    }
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)


@task_app.command("export", epilog="Example: envfarm task export --format swebench-repo mined/tasks --out dataset")
def export_command(
    paths: Paths,
    *,
    format_: Annotated[ExportFormat, typer.Option("--format", help="What to write.")],
    out: Annotated[Path, typer.Option("--out", help="File (jsonl) or new folder (repo) to write.")],
) -> None:
    """Write tasks as SWE-bench rows, or as a SWE-bench task repository; imported rows go out as they came in."""
    folders = _task_folders(paths)
    if format_ is ExportFormat.REPOSITORY:
        if imported := [folder for folder in folders if (folder / ROW_FILE).is_file()]:
            message = f"{imported[0]} is an imported row, which has no environment: export it as {ExportFormat.JSONL}"
            raise UserError(message)
        count = write_repository((read_package(folder) for folder in folders), out)
    else:
        count = write_lines((_row(folder) for folder in folders), out)
    sys.stderr.write(f"{count} tasks written to {out}\n")


@task_app.command("import", epilog="Example: envfarm task import verified.jsonl --out imported")
def import_command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A Harbor task folder, a folder of them, a SWE-bench task repository, or a file of rows (JSON lines).",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", help="New folder that gets one folder per task.")],
    format_: Annotated[
        ImportFormat | None, typer.Option("--format", help="What SOURCE is [default: seen from SOURCE].")
    ] = None,
) -> None:
    """Take over foreign tasks without losing a byte; they cannot be graded here before they are validated again.

    Nothing of them is run: a parser or a build command that a data set carries stays text.
    """
    kind = format_ or _kind_of(source)
    if kind is ImportFormat.HARBOR:
        folders = (
            [source] if (source / TASK_FILE).is_file() else sorted(p.parent for p in source.glob(f"*/{TASK_FILE}"))
        )
        if not folders:
            message = f"{source} holds no Harbor task: a task folder has a {TASK_FILE}"
            raise UserError(message)
        count = write_foreign_tasks({folder.absolute().name: read_foreign(folder) for folder in folders}, out)
    elif kind is ImportFormat.REPOSITORY:
        found = list(read_repository(source))
        if not found:
            message = f"{source} holds no tasks/*/task.yaml: name a SWE-bench task repository"
            raise UserError(message)
        count = write_foreign((row for row, _ in found), out, files={row.name: files for row, files in found})
    else:
        count = write_foreign(read_rows(source), out)
    told = "they have to be validated here before they can be graded"
    sys.stderr.write(f"{count} tasks taken over to {out}; {told}\n")


def _kind_of(source: Path) -> ImportFormat:
    if not source.exists():
        message = f"{source} does not exist: name a Harbor task folder, a task repository, or a file of rows"
        raise UserError(message)
    if not source.is_dir():
        return ImportFormat.ROWS
    return ImportFormat.REPOSITORY if (source / "sweb.yaml").is_file() else ImportFormat.HARBOR


def _row(folder: Path) -> bytes:
    if (folder / ROW_FILE).is_file():
        row = read_imported(folder)
        return row.text or render_json(row.row)
    return render_json(to_row(read_package(folder)))


def _task_folders(paths: Iterable[Path]) -> list[Path]:
    """Return the task folders that the paths are or hold.

    Raises:
        TaskError: A path is neither.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            message = f"{path}: it is no folder: name a task folder"
            raise TaskError(message)
        inside = sorted({entry.parent for name in (TASK_FILE, ROW_FILE) for entry in path.glob(f"*/{name}")})
        found += [path] if not inside or _is_task(path) else inside
    return found


def _is_task(path: Path) -> bool:
    return (path / TASK_FILE).is_file() or (path / ROW_FILE).is_file()
