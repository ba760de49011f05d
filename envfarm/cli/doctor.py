"""`envfarm doctor`: what works on this machine, what does not, and the command that mends it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import anyio
import anyio.to_thread
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from envfarm.images.interpreters import find_interpreters
from envfarm.sandbox.docker.probe import probe_docker
from envfarm.sandbox.finding import Finding
from envfarm.sandbox.local.probe import probe_local_jail
from envfarm.settings import load_settings

_EXIT_NOT_READY = 1
_LEAST_FREE_BYTES = 5 << 30
_EXAMPLES = """Examples:

envfarm doctor

envfarm doctor --json

envfarm doctor --conformance docker
"""


def doctor_command(
    *,
    conformance: Annotated[
        str | None,
        typer.Option("--conformance", metavar="PROVIDER", help="Run the checks of the sandbox contract on a provider."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Say what works on this machine, what does not, and the command that mends it.

    Exit code 0 when mining and grading can work, or the provider keeps the whole contract; else 1.
    """
    if conformance is not None:
        from envfarm.cli.doctor_conformance import tell_conformance

        if not tell_conformance(conformance, as_json=json_):
            raise typer.Exit(_EXIT_NOT_READY)
        return
    findings = anyio.run(_examine)
    ready = all(finding.works for finding in findings if finding.needed)
    if json_:
        sys.stdout.write(json.dumps({"ready": ready, "findings": [asdict(finding) for finding in findings]}) + "\n")
    else:
        _print(findings, ready=ready)
    if not ready:
        raise typer.Exit(_EXIT_NOT_READY)


async def _examine() -> list[Finding]:
    return [
        _program("git", ["git", "--version"], "apt-get install git", needed=True),
        _uv(),
        *await probe_local_jail(),
        _interpreters(),
        _disk(),
        await anyio.to_thread.run_sync(probe_docker),
        _program("Chromium", ["chromium", "--version"], "apt-get install chromium-headless-shell"),
        _program("cluster", ["kubectl", "version", "--request-timeout=3s"], "point KUBECONFIG at a cluster"),
    ]


def _program(name: str, argv: list[str], mend: str, *, needed: bool = False) -> Finding:
    later = "" if needed else " (not needed yet)"
    if shutil.which(argv[0]) is None:
        return Finding(name=name, works=False, detail=f"{argv[0]} is not installed{later}", mend=mend, needed=needed)
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
    except subprocess.TimeoutExpired:
        return Finding(name=name, works=False, detail=f"{argv[0]} does not answer{later}", mend=mend, needed=needed)
    said = (done.stdout.strip() or done.stderr.strip()).splitlines() or [""]
    if done.returncode != 0:
        return Finding(name=name, works=False, detail=f"{said[-1]}{later}", mend=mend, needed=needed)
    return Finding(name=name, works=True, detail=said[0], needed=needed)


def _uv() -> Finding:
    from uv import find_uv_bin

    try:
        program = find_uv_bin()
    except FileNotFoundError:
        return Finding(name="uv", works=False, detail="not installed", mend="pip install uv", needed=True)
    return _program("uv", [program, "--version"], "pip install --force-reinstall uv", needed=True)


def _interpreters() -> Finding:
    found = find_interpreters()
    detail = ", ".join(interpreter.full for interpreter in found.values()) or "none"
    return Finding(
        name="interpreters",
        works=bool(found),
        detail=f"{detail}; others are brought when a task needs them",
        mend="" if found else "uv python install 3.12",
        needed=True,
    )


def _disk() -> Finding:
    folder = load_settings(Path.cwd(), os.environ).cache_folder
    place = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    free = shutil.disk_usage(place).free
    return Finding(
        name="cache folder",
        works=os.access(place, os.W_OK) and free > _LEAST_FREE_BYTES,
        detail=f"{folder}, {free / (1 << 30):.0f} GiB free",
        mend="" if free > _LEAST_FREE_BYTES else "export ENVFARM_CACHE_FOLDER=/a/larger/disk",
        needed=True,
    )


def _print(findings: list[Finding], *, ready: bool) -> None:
    console = Console()
    table = Table("", "what", "seen", "what mends it")
    for finding in findings:
        mark = (
            Text("works", style="green") if finding.works else Text("fails" if finding.needed else "no", style="yellow")
        )
        table.add_row(mark, finding.name, Text(finding.detail), Text(finding.mend))
    console.print(table)
    console.print("mining and grading can work here" if ready else "mining and grading cannot work here yet")
