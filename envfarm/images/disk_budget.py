"""Keeps images of tasks, ours and those of other makers, and our layers within a budget of disk."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from envfarm.errors import ContainerImageMissingError, SandboxStartError
from envfarm.images.built_images import BuiltImages
from envfarm.images.eviction import Eviction, plan_eviction
from envfarm.images.foreign_images import foreign_images
from envfarm.images.layer_store import LayerStore
from envfarm.images.recipe import IMAGE_LABEL
from envfarm.images.unfinished import remove_unfinished
from envfarm.records.image import BuiltImage
from envfarm.sandbox.docker.engine import Engine

_RECENT_SECONDS = 600.0


def keep_within(
    budget_bytes: int,
    engine: Engine,
    cache_folder: Path,
    *,
    kept_ids: frozenset[str] = frozenset(),
    spares_recent: bool = True,
    report: Callable[[str], None] | None = None,
) -> Eviction:
    """Remove what was not used longest until the rest fits; an image that a container uses stays for now.

    Args:
        budget_bytes: What all may take.
        engine: Has the images.
        cache_folder: envfarm's cache on this machine.
        kept_ids: Ids of images that stay.
        spares_recent: Whether images of other makers' tasks stay for ten minutes after their last use: somebody may be
            about to lease one.
        report: Is told in one line what stays for now.

    Returns:
        What was to go. Images that somebody removed from the engine are forgotten on the way.
    """
    remove_unfinished(cache_folder)
    _forget_lost(engine, cache_folder)
    records = BuiltImages(cache_folder)
    foreign = foreign_images(engine)
    if spares_recent:
        kept_ids |= {image.built.image_id for image in foreign if image.used_at > time.time() - _RECENT_SECONDS}
    stored = list(LayerStore(cache_folder).stored())
    plan = plan_eviction([*records.all(), *foreign], stored, budget_bytes, kept_ids=kept_ids)
    for image in plan.images:
        try:
            engine.remove_image(image.built.reference)
        except SandboxStartError as error:
            if report is not None:
                report(f"{image.built.task_id} stays for now: {error}")
            continue
        if image.built.task_digest:
            records.forget(image.built.task_digest)
    for layer in plan.layers:
        layer.path.unlink(missing_ok=True)
    return plan


def remember(built: BuiltImage, engine: Engine, cache_folder: Path) -> None:
    """Keep the record of an image; the one that it takes the place of goes from the engine."""
    records = BuiltImages(cache_folder)
    older = [known.built for known in records.all() if known.built.task_digest == built.task_digest]
    records.add(built)
    used = {known.built.reference for known in records.all()}
    for image in older:
        if image.reference not in used:
            with suppress(SandboxStartError):  # a container uses it: `prune --all` finds it later
                engine.remove_image(image.reference)


def find_strays(engine: Engine, cache_folder: Path) -> list[str]:
    """Return ids of images of tasks that the engine has and this cache knows nothing of."""
    named = {image.built.image_id: image.built.reference for image in BuiltImages(cache_folder).all()}
    strays = [image for image in engine.list_images(IMAGE_LABEL) if image not in named]
    return [image for image in strays if not set(engine.image_facts(image).tags) & set(named.values())]


def _forget_lost(engine: Engine, cache_folder: Path) -> None:
    records = BuiltImages(cache_folder)
    here = set(engine.list_images(IMAGE_LABEL))
    for known in list(records.all()):
        if known.built.image_id not in here and not _has(engine, known.built.reference):
            records.forget(known.built.task_digest)


def _has(engine: Engine, reference: str) -> bool:
    try:
        engine.image_facts(reference)
    except ContainerImageMissingError:
        return False
    return True
