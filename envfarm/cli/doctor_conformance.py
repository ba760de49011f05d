"""`envfarm doctor --conformance PROVIDER`: the sandbox contract as checks, on anybody's provider."""

import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from envfarm.images.interpreters import Interpreter, find_interpreters
from envfarm.plugins import SANDBOXES, load_plugin
from envfarm.records.image import Folder, Image
from envfarm.sandbox.conformance import CHECKS, CheckResult, ConformanceMaterial, run_conformance
from envfarm.settings import load_settings

if TYPE_CHECKING:
    from envfarm.sandbox.contract import SandboxProviderFactory


def tell_conformance(name: str, *, as_json: bool) -> bool:
    """Run all checks on a provider, print how each ended, and return whether all of them are kept.

    Raises:
        UnknownPluginError: No provider of that name is installed.
        MissingToolError: The provider lacks something on this machine.
    """
    console = Console(stderr=True)
    results = anyio.run(_run, name, console)
    kept = all(result.kept for result in results)
    if as_json:
        told = {"provider": name, "kept": kept, "checks": [asdict(result) for result in results]}
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        _print(results, name)
    return kept


async def _run(name: str, console: Console) -> list[CheckResult]:
    chosen = load_settings(Path.cwd(), os.environ).sandbox.chosen(name)
    open_provider: SandboxProviderFactory = load_plugin(SANDBOXES, chosen.provider)
    interpreter = list(find_interpreters().values())[-1:]
    with tempfile.TemporaryDirectory(prefix="envfarm-conformance-") as folder:
        Path(folder).chmod(0o755)
        async with open_provider(chosen.options) as provider:
            material = ConformanceMaterial(
                provider=provider,
                make_image=lambda folders: _image_of(interpreter, folders),
                folder=Path(folder),
                shares_one_disk=getattr(provider, "shares_one_disk", True),
            )
            with console.status("") as status:
                done: list[CheckResult] = []

                def observe(result: CheckResult) -> None:
                    done.append(result)
                    status.update(
                        f"{len(done)} of {len(CHECKS)} checks, {sum(not item.kept for item in done)} not kept"
                    )

                return await run_conformance(material, observe)


def _image_of(interpreter: list[Interpreter], folders: tuple[Folder, ...]) -> Image:
    """Return an image with a Python of this machine: some checks run programs in it."""
    shown = tuple(folder for item in interpreter for folder in item.folders())
    path = ":".join([*(f"{item.prefix}/bin" for item in interpreter), "/usr/local/bin:/usr/bin:/bin"])
    return Image(image_id="conformance", folders=(*shown, *folders), environment_variables={"PATH": path})


def _print(results: list[CheckResult], name: str) -> None:
    console = Console()
    table = Table("", "check", "what was seen", "s")
    for result in results:
        mark = Text("kept", style="green") if result.kept else Text("NOT", style="bold red")
        table.add_row(mark, result.name, Text(result.detail), f"{result.seconds:.2f}")
    console.print(table)
    broken = sum(not result.kept for result in results)
    console.print(f"{name}: {len(results) - broken} of {len(results)} checks of the sandbox contract are kept")
