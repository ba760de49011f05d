"""find_image(): the image of a task that was built for a container engine, where there is one."""

from collections.abc import Callable
from os import geteuid
from pathlib import Path

import anyio.to_thread

from envfarm.errors import MissingToolError
from envfarm.images.builder import find_built
from envfarm.images.built_images import BuiltImages
from envfarm.images.recipe import USER
from envfarm.records.image import Image
from envfarm.records.task import TaskPackage
from envfarm.sandbox.contract import SandboxProvider
from envfarm.sandbox.docker.engine import open_engine

_ENGINES = frozenset({"docker"})


async def find_image(
    package: TaskPackage,
    provider: SandboxProvider,
    cache_folder: Path,
    *,
    report: Callable[[str], None] | None = None,
    driver_uid: int | None = None,
) -> Image | None:
    """Return the task's built image; None where the provider leases none, or none is built: then folders serve.

    The workspace of an image is `USER`'s. A box's agent has to be that user then, and its socket is closed to all but
    that user and root; so drivers of other users take folders, and are told.

    Args:
        package: The task.
        provider: Leases the boxes.
        cache_folder: envfarm's cache on this machine.
        report: Is told in one line why an image that is built is not taken.
        driver_uid: Who drives; this process's user by default.
    """
    if provider.name not in _ENGINES:
        return None
    uid = geteuid() if driver_uid is None else driver_uid
    if uid in {0, USER}:
        return await anyio.to_thread.run_sync(_find, package, cache_folder)
    if report is not None and BuiltImages(cache_folder).find(package.digest) is not None:
        report(f"its image is not taken, since user {uid} cannot drive boxes of user {USER}: folders serve instead")
    return None


def _find(package: TaskPackage, cache_folder: Path) -> Image | None:
    try:
        with open_engine() as engine:
            built = find_built(package, engine, None, cache_folder)
    except MissingToolError:  # the provider says it better
        return None
    return Image(image_id=built.image_id, reference=built.reference) if built is not None else None
