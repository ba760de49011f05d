"""`envfarm model`: what a checkpoint holds, and the server."""

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from envfarm.cli.model_serve import SERVE_EXAMPLE, serve_command
from envfarm.model.bundled_model import find_checkpoint
from envfarm.model.inspection import Inspection, inspect_checkpoint
from envfarm.model.kernels.libraries import usable_kinds

_EXIT_MISFIT = 1
_SHOWN = 10

model_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Look into a checkpoint of MiMo-V2-Flash's architecture, and serve it.",
)


@model_app.callback()
def model_root() -> None:
    """Look into a checkpoint of MiMo-V2-Flash's architecture, and serve it."""


model_app.command("serve", epilog=SERVE_EXAMPLE)(serve_command)


@model_app.command("inspect", epilog="Example: envfarm model inspect MiMo-V2-Flash/ --json")
def inspect_command(
    path: Annotated[
        str,
        typer.Argument(metavar="PATH|bundled", help="A checkpoint's folder, a config.json alone, or our own model."),
    ],
    *,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Print configuration, sizes, bytes of keys and values, and which weights are missing or not asked for.

    Only headers are read. Exit code 0: the weights fit, or there are none; 1: they do not; 2: a user's mistake.
    """
    found = inspect_checkpoint(find_checkpoint(path))
    if json_:
        sys.stdout.write(json.dumps(_as_json(found)) + "\n")
    else:
        _print(Console(), found)
    if found.misfits:
        raise typer.Exit(_EXIT_MISFIT)


def _as_json(found: Inspection) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "config": {**asdict(found.config), "num_hidden_layers": found.config.num_hidden_layers},
        "parameters": asdict(found.counts),
        "key_values": [
            {**asdict(row), "bytes_per_token": round(row.per_token, 1), "ratio": round(row.ratio, 3)}
            for row in found.key_values
        ],
        "kernels": [kind.name for kind in usable_kinds()],
        "stored_bytes": dict(found.stored_bytes),
        "has_weights": found.misfits is not None,
        "misfits": None if found.misfits is None else asdict(found.misfits),
    }


def _print(console: Console, found: Inspection) -> None:
    console.print(_config_table(found))
    console.print(_key_value_table(found))
    if found.misfits is None:
        console.print("no weights beside config.json")
        return
    stored = ", ".join(f"{count:,} bytes of {dtype}" for dtype, count in sorted(found.stored_bytes.items()))
    console.print(f"stored: {stored}")
    if not found.misfits:
        console.print("[green]every weight that config.json asks for is there, and no other[/green]")
    sorts = found.misfits.missing, found.misfits.unexpected, found.misfits.misshapen
    for sort, names in zip(("missing", "unexpected", "misshapen"), sorts, strict=True):
        if names:
            console.print(f"[red]{len(names)} {sort}[/red]")
            for name in names[:_SHOWN]:
                console.print(f"  {escape(name)}", highlight=False, soft_wrap=True)
            if len(names) > _SHOWN:
                console.print(f"  and {len(names) - _SHOWN} more; --json lists all")


def _config_table(found: Inspection) -> Table:
    from envfarm.model.config import LayerKind

    config, counts = found.config, found.counts
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    whole, window = (config.count_layers(kind) for kind in (LayerKind.GLOBAL, LayerKind.WINDOW))
    table.add_row("layers", f"{config.num_hidden_layers}: {whole} global, {window} window of {config.sliding_window}")
    experts = f"{config.n_routed_experts} experts, {config.num_experts_per_tok} for each token"
    table.add_row(
        "feed-forward", f"{config.num_hidden_layers - config.moe_layers} dense, {config.moe_layers} of {experts}"
    )
    table.add_row("hidden, vocabulary", f"{config.hidden_size}, {config.vocab_size}")
    for kind in LayerKind:
        shape = config.attention(kind)
        sink = ", sinks" if shape.has_sink else ""
        table.add_row(
            f"{kind} attention",
            f"{shape.heads} heads, {shape.kv_heads} key-value heads, {shape.head_dim}/{shape.v_head_dim} numbers, "
            f"rotary base {shape.rope_theta:,.0f}{sink}",
        )
    table.add_row("parameters", _sized(counts.total))
    table.add_row("active", _sized(counts.active))
    table.add_row(f"MTP, {config.num_nextn_predict_layers} blocks", _sized(counts.mtp))
    kinds = [kind.name for kind in usable_kinds()]
    table.add_row("kernels of this machine", kinds[0] if kinds else "none: torch computes")
    return table


def _key_value_table(found: Inspection) -> Table:
    table = Table("tokens", "keys and values, bf16", "bytes per token", "all global", "times smaller")
    for row in found.key_values:
        sizes = f"{row.hybrid:,}", f"{row.per_token:,.0f}", f"{row.all_global:,}"
        table.add_row(f"{row.tokens:,}", *sizes, f"{row.ratio:.2f}")
    return table


def _sized(count: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6)):
        if count >= size:
            return f"{count / size:.2f} {unit} ({count:,})"
    return f"{count:,}"
