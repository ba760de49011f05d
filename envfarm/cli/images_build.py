"""`envfarm images build|verify|audit`: images of tasks are made, made again, and searched for the fix."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
import anyio.to_thread
import typer
from rich.console import Console

from envfarm.cli.image_options import GIGABYTE, Base, Budget, Cache, as_megabytes, docker_base, print_json
from envfarm.errors import BoundaryError, EngineUnreachableError, UserError
from envfarm.settings import Settings, load_settings

if TYPE_CHECKING:
    from envfarm.images.builder import ImageWorks
    from envfarm.records.image import BuiltImage
    from envfarm.records.task import TaskPackage

_EXIT_FOUND = 1
Tasks = Annotated[
    list[Path], typer.Argument(metavar="TASK...", help="Task folders, or folders that hold task folders.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per task.")]


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What the command line asks for."""

    tasks: list[Path]
    base: str | None
    cache: Path | None
    as_json: bool
    budget_gigabytes: float | None = None


def build_command(
    tasks: Tasks,
    *,
    base: Base = None,
    cache: Cache = None,
    budget: Budget = None,
    json_: AsJson = False,
) -> None:
    """Build the images of tasks for the Docker daemon of this machine; those that are there are not built again.

    An image holds an interpreter, the locked environment, and the workspace at its base. It is the same bit for bit
    whenever it is built. When disk is short, images that were not used longest go first.
    """
    wish = _Wish(tasks=tasks, base=base, cache=cache, as_json=json_, budget_gigabytes=budget)
    if anyio.run(_build, wish):
        raise typer.Exit(_EXIT_FOUND)


def verify_command(tasks: Tasks, *, base: Base = None, cache: Cache = None, json_: AsJson = False) -> None:
    """Build images again in another folder, environments from their locks up, and compare the ids."""
    if anyio.run(_verify, _Wish(tasks=tasks, base=base, cache=cache, as_json=json_)):
        raise typer.Exit(_EXIT_FOUND)


def audit_command(tasks: Tasks, *, base: Base = None, cache: Cache = None, json_: AsJson = False) -> None:
    """Search every layer of images for the fix, and keep a certificate that names the image."""
    if anyio.run(_audit, _Wish(tasks=tasks, base=base, cache=cache, as_json=json_)):
        raise typer.Exit(_EXIT_FOUND)


async def _build(wish: _Wish) -> int:
    from envfarm.images.builder import build_task_image

    failures = 0
    settings = load_settings(Path.cwd(), os.environ)
    gigabytes = settings.images.budget_gigabytes if wish.budget_gigabytes is None else wish.budget_gigabytes
    packages = _read_tasks(wish.tasks)
    console = Console(stderr=True)
    async with _works(wish, settings, console) as works:
        for number, package in enumerate(packages, start=1):
            try:
                built = await build_task_image(package, works)
            except EngineUnreachableError:
                raise
            except BoundaryError as error:
                failures += 1
                console.print(f"{package.task.task_id}: {' '.join(str(error).split())}", markup=False, soft_wrap=True)
                continue
            await anyio.to_thread.run_sync(_make_room, int(gigabytes * GIGABYTE), built.image_id, works)
            _tell_built(built, f"[{number}/{len(packages)}] ", as_json=wish.as_json)
    return failures


def _make_room(budget_bytes: int, kept_id: str, works: "ImageWorks") -> None:
    from envfarm.images.disk_budget import keep_within

    keep_within(budget_bytes, works.engine, works.cache_folder, kept_ids=frozenset({kept_id}), report=works.report)


async def _verify(wish: _Wish) -> int:
    from envfarm.images.verify import verify_image

    differing = 0
    async with _works(wish, load_settings(Path.cwd(), os.environ), Console(stderr=True)) as works:
        for package in _read_tasks(wish.tasks):
            found = await verify_image(package, _require_built(package, works), works)
            differing += not found.same
            if wish.as_json:
                print_json({"task_id": package.task.task_id, "same": found.same, **asdict(found)})
            elif found.same:
                _print(f"{package.task.task_id}  same  {found.image_id}")
            else:
                _print(f"{package.task.task_id}  DIFFERENT  {found.image_id} here, {found.rebuilt_id} built again")
                for line in found.differing:
                    _print(f"  {line}")
    return differing


async def _audit(wish: _Wish) -> int:
    from envfarm.images.built_images import BuiltImages
    from envfarm.images.image_archive import open_saved_image
    from envfarm.images.image_audit import audit_image, first_leak
    from envfarm.records.versioned import encode_line

    leaks = 0
    async with _works(wish, load_settings(Path.cwd(), os.environ), Console(stderr=True)) as works:
        for package in _read_tasks(wish.tasks):
            built = _require_built(package, works)
            with open_saved_image(works.engine, built.reference, works.cache_folder) as saved:
                certificate = await anyio.to_thread.run_sync(audit_image, package, built, saved)
            BuiltImages(works.cache_folder).certify(certificate)
            leak = first_leak(certificate)
            leaks += leak is not None
            if wish.as_json:
                sys.stdout.write(encode_line(certificate).decode())
            else:
                _print(f"{built.task_id}  {'clean' if leak is None else f'LEAK  {leak}'}  {built.image_id}")
    return leaks


@asynccontextmanager
async def _works(wish: _Wish, settings: Settings, console: Console) -> AsyncIterator["ImageWorks"]:
    from envfarm.images.builder import ImageWorks
    from envfarm.plugins import SANDBOXES, load_plugin
    from envfarm.sandbox.contract import SandboxProviderFactory
    from envfarm.sandbox.docker.base_image import ensure_base
    from envfarm.sandbox.docker.engine import open_engine

    def report(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    open_provider: SandboxProviderFactory = load_plugin(SANDBOXES, settings.sandbox.provider)
    with open_engine() as engine:
        base = await anyio.to_thread.run_sync(ensure_base, engine, wish.base or docker_base(settings), report)
        async with open_provider(settings.sandbox.options) as provider:
            yield ImageWorks(
                engine=engine,
                base=base,
                provider=provider,
                cache_folder=(wish.cache or settings.cache_folder).absolute(),
                report=report,
            )


def _read_tasks(paths: list[Path]) -> "list[TaskPackage]":
    """Return the tasks in folders, or in folders of folders."""
    from envfarm.formats.harbor import read_package
    from envfarm.records.task import TASK_FILE

    packages = []
    for path in paths:
        below = sorted(file.parent for file in path.glob(f"*/{TASK_FILE}")) if path.is_dir() else []
        packages += [read_package(folder) for folder in ([path] if (path / TASK_FILE).exists() else below or [path])]
    return packages


def _require_built(package: "TaskPackage", works: "ImageWorks") -> "BuiltImage":
    from envfarm.images.builder import find_built

    built = find_built(package, works.engine, works.base, works.cache_folder)
    if built is None:
        message = f"{package.task.task_id} has no image on {works.base} here: envfarm images build it first"
        raise UserError(message)
    return built


def _tell_built(built: "BuiltImage", head: str, *, as_json: bool) -> None:
    from envfarm.records.versioned import encode_line

    if as_json:
        sys.stdout.write(encode_line(built).decode())
        sys.stdout.flush()
        return
    sizes = ", ".join(f"{layer.name} {as_megabytes(layer.size_bytes)}" for layer in built.layers if layer.size_bytes)
    _print(f"{head}{built.task_id}  {built.image_id}  {sizes}")


def _print(line: str) -> None:
    Console().print(line, markup=False, highlight=False, soft_wrap=True)
