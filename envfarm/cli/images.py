"""`envfarm images`: the images that boxes of a container engine are made from."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from envfarm.settings import Settings, load_settings

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
def base_command(
    *,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="IMAGE", help="debian, made here, or an image to pull [settings]."),
    ] = None,
) -> None:
    """Make or pull the base: the image of boxes that are made of folders of this machine."""
    from envfarm.sandbox.docker.base_image import ensure_base
    from envfarm.sandbox.docker.engine import open_engine

    setting = base or docker_base(load_settings(Path.cwd(), os.environ))
    console = Console(stderr=True)
    with open_engine() as engine:
        reference = ensure_base(engine, setting, console.print)
        facts = engine.image_facts(reference)
    Console().print(f"{reference}  {facts.image_id}  {facts.size_bytes / 1e6:.0f} MB", soft_wrap=True)


def docker_base(settings: Settings) -> str:
    """Return the base that the settings name for the docker sandbox."""
    from envfarm.sandbox.docker.options import read_options

    return read_options(settings.sandbox.options if settings.sandbox.provider == "docker" else {}).base
