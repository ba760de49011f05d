"""`envfarm ledger`: what became of each candidate, and why."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from envfarm.errors import UserError
from task_miner.ledger import FunnelLine, Ledger, StageRow, find_candidate, open_ledger
from task_miner.reasons import ReasonCode, Stage

ledger_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Look into the ledger of an output folder: the funnel, why a candidate fell, and trying again.",
)

OutFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The --out folder of an `envfarm mine`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


@ledger_app.command("status", epilog="Example: envfarm ledger status mined --list")
def status_command(
    folder: OutFolder,
    *,
    json_: AsJson = False,
    list_: Annotated[bool, typer.Option("--list", help="Name every candidate with its last stage and code.")] = False,
) -> None:
    """Draw the funnel: how many candidates ended each stage how, and the seconds that took."""
    with open_ledger(folder, create=False) as ledger:
        lines = ledger.funnel()
        last = _last_rows(ledger) if list_ else ()
    if json_:
        _print_json(
            {
                "stages": [
                    {"stage": x.stage, "code": x.code, "count": x.count, "seconds": round(x.seconds, 3)} for x in lines
                ],
                **({"candidates": [_row_json(row) for row in last]} if list_ else {}),
            }
        )
        return
    console = Console()
    console.print(_funnel_table(lines))
    for row in last:
        console.print(
            f"{row.candidate_id}  {row.stage}  {row.code}  {escape(row.detail)}", highlight=False, soft_wrap=True
        )


@ledger_app.command("explain", epilog="Example: envfarm ledger explain mined 3f2c81")
def explain_command(
    folder: OutFolder,
    candidate: Annotated[str, typer.Argument(metavar="ID", help="A candidate's id, or the beginning of its commit.")],
    *,
    json_: AsJson = False,
) -> None:
    """Tell why a candidate was published or fell, stage by stage, with the log of the last one."""
    with open_ledger(folder, create=False) as ledger:
        rows = ledger.rows_of(find_candidate(ledger, candidate))
    log = next((row.log for row in reversed(rows) if row.log), "")
    text = (folder / log).read_text(encoding="utf-8", errors="replace") if log and (folder / log).is_file() else ""
    if json_:
        _print_json({"candidate": rows[0].candidate_id, "stages": [_row_json(row) for row in rows], "log": text})
        return
    console = Console()
    table = Table("stage", "code", "seconds", "detail", title=rows[0].candidate_id, title_justify="left")
    for row in rows:
        table.add_row(row.stage, row.code, f"{row.seconds:.2f}", escape(row.detail))
    console.print(table)
    if text:
        console.print(f"[bold]{escape(log)}[/bold]")
        console.print(text, markup=False, highlight=False, soft_wrap=True)


@ledger_app.command("retry", epilog="Example: envfarm ledger retry mined --reason INSTALL_FAILED")
def retry_command(
    folder: OutFolder,
    *,
    reason: Annotated[str, typer.Option("--reason", metavar="CODE", help="Code of the candidates to take again.")],
    forget_only: Annotated[
        bool, typer.Option("--forget-only", help="Only forget them; the next `envfarm mine` takes them again.")
    ] = False,
    json_: AsJson = False,
) -> None:
    """Take all candidates that fell with a code again, with the options of the run that made them fall."""
    if reason not in ReasonCode.__members__ or reason == "OK":
        codes = ", ".join(code for code in ReasonCode if code is not ReasonCode.OK)
        message = f"no reason code {reason!r}; the codes are {codes}"
        raise UserError(message)
    from envfarm.cli.mine import mine_again

    mine_again(folder, ReasonCode(reason), forget_only=forget_only, json_=json_)


def _last_rows(ledger: Ledger) -> tuple[StageRow, ...]:
    last: dict[str, StageRow] = {}
    for stage in Stage:
        last |= {row.candidate_id: row for row in ledger.rows_in(stage)}
    return tuple(last[name] for name in sorted(last))


def _funnel_table(lines: tuple[FunnelLine, ...]) -> Table:
    table = Table("stage", "code", "candidates", "seconds", "each")
    stage: Stage | None = None
    for line in lines:
        each = f"{line.seconds / line.count:.2f}" if line.count else ""
        style = "green" if line.code is ReasonCode.OK else "yellow"
        name = "" if line.stage is stage else str(line.stage)
        table.add_row(name, f"[{style}]{line.code}[/{style}]", str(line.count), f"{line.seconds:.1f}", each)
        stage = line.stage
    return table


def _row_json(row: StageRow) -> dict[str, str | float]:
    return {
        "id": row.candidate_id,
        "stage": row.stage,
        "code": row.code,
        "detail": row.detail,
        "seconds": row.seconds,
        "bytes": row.bytes,
        "log": row.log,
    }


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
