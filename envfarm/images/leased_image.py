"""find_image(): the image of a task that was built for a container engine, where there is one."""

from os import geteuid
from pathlib import Path

import anyio.to_thread

from envfarm.errors import MissingToolError
from envfarm.images.builder import find_built
from envfarm.images.recipe import USER
from envfarm.records.image import Image
from envfarm.records.task import TaskPackage
from envfarm.sandbox.contract import SandboxProvider
from envfarm.sandbox.docker.engine import open_engine

_ENGINES = frozenset({"docker"})


async def find_image(package: TaskPackage, provider: SandboxProvider, cache_folder: Path) -> Image | None:
    """Return the task's built image; None where the provider leases none, or none is built: then folders serve.

    Boxes run as the driver's user, and the workspace of an image is another's unless that is root or `USER`.
    """
    if provider.name not in _ENGINES or geteuid() not in {0, USER}:
        return None
    return await anyio.to_thread.run_sync(_find, package, cache_folder)


def _find(package: TaskPackage, cache_folder: Path) -> Image | None:
    try:
        with open_engine() as engine:
            built = find_built(package, engine, None, cache_folder)
    except MissingToolError:  # the provider says it better
        return None
    return Image(image_id=built.image_id, reference=built.reference) if built is not None else None
