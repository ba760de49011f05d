"""`envfarm images`: the images that boxes of a container engine are made from."""

import os
from functools import partial
from pathlib import Path

import typer
from rich.console import Console

from envfarm.cli.image_options import Base, docker_base
from envfarm.cli.images_build import audit_command, build_command, verify_command
from envfarm.cli.images_room import ls_command, prune_command
from envfarm.settings import load_settings

images_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Make and look after the images that boxes of a container engine are made from.",
)


@images_app.callback()
def _root() -> None:
    """Make and look after the images that boxes of a container engine are made from."""


@images_app.command("base", epilog="Example: envfarm images base")
def base_command(*, base: Base = None) -> None:
    """Make or pull the base: the image of boxes that are made of folders of this machine."""
    from envfarm.sandbox.docker.base_image import ensure_base
    from envfarm.sandbox.docker.engine import open_engine

    setting = base or docker_base(load_settings(Path.cwd(), os.environ))
    console = Console(stderr=True)
    with open_engine() as engine:
        reference = ensure_base(engine, setting, partial(console.print, soft_wrap=True))
        facts = engine.image_facts(reference)
    Console().print(f"{reference}  {facts.image_id}  {facts.size_bytes / 1e6:.0f} MB", soft_wrap=True)


for _name, _verb, _example in (
    ("build", build_command, "build mined/tasks"),
    ("verify", verify_command, "verify mined/tasks/tabulate-1a2b3c"),
    ("audit", audit_command, "audit mined/tasks --json"),
    ("ls", ls_command, "ls"),
    ("prune", prune_command, "prune --budget 5"),
):
    images_app.command(_name, epilog=f"Example: envfarm images {_example}")(_verb)
