"""What the verbs of `envfarm images` have in common: options, sizes for people, JSON for programs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from envfarm.settings import Settings

Base = Annotated[
    str | None, typer.Option("--base", metavar="IMAGE", help="debian, made here, or an image to pull [settings].")
]
Cache = Annotated[Path | None, typer.Option("--cache", metavar="DIR", help="Cache folder.")]
Budget = Annotated[
    float | None,
    typer.Option("--budget", metavar="GB", min=0, help="Disk for all images of tasks [default: the settings' 20]."),
]
GIGABYTE = 1e9


def docker_base(settings: Settings) -> str:
    """Return the base that the settings name for the docker sandbox."""
    from envfarm.sandbox.docker.options import read_options

    return read_options(settings.sandbox.options if settings.sandbox.provider == "docker" else {}).base


def as_megabytes(size_bytes: int) -> str:
    """Return a size for people."""
    return f"{size_bytes / 1e6:.1f} MB"


def print_json(value: object) -> None:
    """Print one JSON line."""
    import msgspec

    sys.stdout.write(msgspec.json.encode(value, order="deterministic").decode() + "\n")
