"""`envfarm images ls|prune`: what images of tasks take, and less of it."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from envfarm.cli.image_options import GIGABYTE, Budget, Cache, as_megabytes, print_json
from envfarm.settings import load_settings


def ls_command(
    *, cache: Cache = None, json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
) -> None:
    """List the images of tasks with their sizes, what was used last first."""
    from envfarm.images.built_images import BuiltImages
    from envfarm.images.disk_budget import find_strays
    from envfarm.images.eviction import bytes_of
    from envfarm.images.foreign_images import foreign_images
    from envfarm.images.image_audit import first_leak
    from envfarm.images.layer_store import LayerStore
    from envfarm.sandbox.docker.engine import open_engine

    folder = _cache_folder(cache)
    records = BuiltImages(folder)
    images = sorted(records.all(), key=lambda known: -known.used_at)
    layers = list(LayerStore(folder).stored())
    with open_engine() as engine:
        strays = find_strays(engine, folder)
        foreign = sorted(foreign_images(engine), key=lambda known: -known.used_at)
    rows = []
    for known in images:
        certificate = records.certificate_of(known.built)
        audit = "not audited" if certificate is None else first_leak(certificate) or "clean"
        sizes = {layer.name: layer.size_bytes for layer in known.built.layers if layer.size_bytes}
        rows.append({"task_id": known.built.task_id, "image_id": known.built.image_id, "bytes": sizes, "audit": audit})
    total = bytes_of([*images, *foreign], layers)
    others = [{"reference": known.built.reference, "bytes": bytes_of([known], [])} for known in foreign]
    if json_:
        told = {"images": rows, "foreign_images": others, "total_bytes": total, "layers_in_cache": len(layers)}
        print_json({**told, "unknown_images": strays})
        return
    table = Table(
        Column("task", no_wrap=True), Column("image", overflow="fold"), "task layer", "shared layers", "audit", box=None
    )
    for row, known in zip(rows, images, strict=True):
        sizes = {layer.name: layer.size_bytes for layer in known.built.layers}
        shared = sum(sizes.values()) - sizes.get("task", 0)
        table.add_row(
            known.built.task_id,
            known.built.reference,
            as_megabytes(sizes.get("task", 0)),
            as_megabytes(shared),
            str(row["audit"]),
        )
    for known in foreign:
        table.add_row("of another maker", known.built.reference, as_megabytes(bytes_of([known], [])), "", "")
    console = Console()
    console.print(table)
    count = len(images) + len(foreign)
    console.print(f"{count} images and {len(layers)} layers in the cache: {as_megabytes(total)} beside the bases")
    if strays:
        console.print(f"{len(strays)} more images of tasks are not of this cache: envfarm images prune --all")


def prune_command(
    *,
    budget: Budget = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Remove every image of a task, also those of other caches, and all layers.")
    ] = False,
    cache: Cache = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Remove images of tasks and layers of the cache that were not used longest, until the rest fits."""
    from envfarm.errors import SandboxStartError
    from envfarm.images.disk_budget import find_strays, keep_within
    from envfarm.sandbox.docker.engine import open_engine

    console = Console(stderr=True)
    gigabytes = load_settings(Path.cwd(), os.environ).images.budget_gigabytes if budget is None else budget
    folder = _cache_folder(cache)
    with open_engine() as engine:
        budget_bytes = 0 if all_ else int(gigabytes * GIGABYTE)
        done = keep_within(budget_bytes, engine, folder, spares_recent=not all_, report=console.print)
        strays = find_strays(engine, folder) if all_ else []
        for image in strays:
            try:
                engine.remove_image(image, force=True)
            except SandboxStartError as error:
                console.print(f"{image} stays for now: {error}", markup=False, soft_wrap=True)
    freed = done.bytes_before - done.bytes_after
    if json_:
        removed = [image.built.task_id for image in done.images]
        print_json({"removed": removed, "layers": len(done.layers), "unknown": len(strays), "freed_bytes": freed})
        return
    Console().print(
        f"removed {len(done.images) + len(strays)} images and {len(done.layers)} layers: {as_megabytes(freed)}; "
        f"{as_megabytes(done.bytes_after)} stay"
    )


def _cache_folder(cache: Path | None) -> Path:
    return (cache or load_settings(Path.cwd(), os.environ).cache_folder).absolute()
