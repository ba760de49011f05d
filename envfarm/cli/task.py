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
from envfarm.formats.foreign import read_foreign, write_foreign_task
from envfarm.formats.harbor import read_package
from envfarm.formats.lint import lint_task
from envfarm.formats.swebench import read_rows, write_foreign, write_repository, write_rows

task_app = typer.Typer(no_args_is_help=True, help="Check, show, export and import tasks.")

_EXIT_PROBLEMS = 2
Paths = Annotated[
    list[Path], typer.Argument(metavar="PATH...", help="Task folders, or folders that hold task folders.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class ExportFormat(StrEnum):
    """What tasks are exported to."""

    JSONL = "swebench-jsonl"
    REPOSITORY = "swebench-repo"


@task_app.command("check", epilog="Example: envfarm task check mined/tasks")
def check_command(paths: Paths, *, json_: AsJson = False) -> None:
    """Apply Harbor's lint ids and our own; exit code 2 when there are errors."""
    found = {str(folder): lint_task(folder) for folder in _task_folders(paths)}
    errors = sum(problem.severity == "error" for problems in found.values() for problem in problems)
    if json_:
        told = {folder: [asdict(problem) for problem in problems] for folder, problems in found.items()}
        sys.stdout.write(json.dumps({"tasks": len(found), "errors": errors, "problems": told}) + "\n")
    else:
        console = Console()
        for folder, problems in found.items():
            for problem in problems:
                place = f"{folder}/{problem.file}" + (f":{problem.line}" if problem.line else "")
                console.print(Text(f"{place}: {problem.severity} [{problem.rule}] {problem.message}"))
        console.print(f"{len(found)} tasks, {errors} errors", highlight=False)
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
    }
    for name, value in rows.items():
        table.add_row(Text(name, style="dim"), Text(str(value)))
    console.print(table)
    gate = Table("control", "has to score", "scored", "checks that were not content")
    for control in task.quality.controls:
        scored = " ".join(f"{reward:g}" for reward in control.rewards)
        gate.add_row(control.name, f"{control.expected_reward:g}", scored, control.reason)
    console.print(gate)


@task_app.command("export", epilog="Example: envfarm task export --format swebench-repo mined/tasks --out dataset")
def export_command(
    paths: Paths,
    *,
    format_: Annotated[ExportFormat, typer.Option("--format", help="What to write.")],
    out: Annotated[Path, typer.Option("--out", help="File (jsonl) or new folder (repo) to write.")],
) -> None:
    """Write tasks in another format."""
    packages = [read_package(folder) for folder in _task_folders(paths)]
    write = write_rows if format_ is ExportFormat.JSONL else write_repository
    count = write(packages, out)
    Console(stderr=True).print(f"{count} tasks written to {out}", highlight=False)


@task_app.command("import", epilog="Example: envfarm task import verified.jsonl --out imported")
def import_command(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A Harbor task folder, or a file of SWE-bench rows.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder that gets one folder per task.")],
) -> None:
    """Take over foreign tasks without losing a field; they are not runnable here before they are validated again."""
    console = Console(stderr=True)
    if source.is_dir():
        folders = [source] if (source / "task.toml").is_file() else sorted(p.parent for p in source.glob("*/task.toml"))
        if not folders:
            message = f"{source} holds no Harbor task: a task folder has a task.toml"
            raise UserError(message)
        for folder in folders:
            write_foreign_task(read_foreign(folder), out / folder.name)
        console.print(f"{len(folders)} Harbor tasks taken over to {out}", highlight=False)
        return
    count = write_foreign(read_rows(source), out)
    console.print(
        f"{count} rows taken over to {out}; they have to be validated before they are graded", highlight=False
    )


def _task_folders(paths: Iterable[Path]) -> list[Path]:
    """Return the task folders that the paths are or hold.

    Raises:
        TaskError: A path is neither.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(entry.parent for entry in path.glob("*/task.toml")) if path.is_dir() else []
        if (path / "task.toml").is_file() or not inside:
            if not path.is_dir():
                message = f"{path}: it is no folder: name a task folder"
                raise TaskError(message)
            found.append(path)
        else:
            found += inside
    return found
