"""Which images and layers go when room is short: what was not used longest. PURE."""

from collections.abc import Sequence
from dataclasses import dataclass

from envfarm.images.built_images import KnownImage
from envfarm.images.layer_store import StoredLayer


@dataclass(frozen=True, kw_only=True)
class Eviction:
    """What goes.

    Attributes:
        images: All that is known of images that go; those with equal ids go together.
        layers: Layers in the cache.
        bytes_before: What all took.
        bytes_after: What is left of it.
    """

    images: tuple[KnownImage, ...] = ()
    layers: tuple[StoredLayer, ...] = ()
    bytes_before: int
    bytes_after: int


def plan_eviction(
    images: Sequence[KnownImage],
    layers: Sequence[StoredLayer],
    budget_bytes: int,
    *,
    kept_ids: frozenset[str] = frozenset(),
) -> Eviction:
    """Return what has to go so that the rest fits a budget.

    Layers of the cache that no image has go first, then images, each with the layers that only it had; layers that
    images still have go last, since they can be made again.

    Args:
        images: All that are known.
        layers: All in the cache.
        budget_bytes: What may be taken; the base counts for nothing, since it is needed anyway.
        kept_ids: Ids of images that stay.
    """
    kept, stored = list(images), list(layers)
    while bytes_of(kept, stored) > budget_bytes:
        held = {layer.diff_id for image in kept for layer in image.built.layers}
        loose = [layer for layer in stored if layer.facts.diff_id not in held]
        last_uses: dict[str, float] = {}
        for image in kept:
            last_uses[image.built.image_id] = max(image.used_at, last_uses.get(image.built.image_id, 0.0))
        free = {image_id: used for image_id, used in last_uses.items() if image_id not in kept_ids}
        if loose or (stored and not free):
            stored.remove(min(loose or stored, key=lambda layer: layer.used_at))
        elif free:
            oldest = min(free, key=lambda image_id: (free[image_id], image_id))
            kept = [image for image in kept if image.built.image_id != oldest]
        else:
            break
    return Eviction(
        images=tuple(image for image in images if image not in kept),
        layers=tuple(layer for layer in layers if layer not in stored),
        bytes_before=bytes_of(images, layers),
        bytes_after=bytes_of(kept, stored),
    )


def bytes_of(images: Sequence[KnownImage], layers: Sequence[StoredLayer]) -> int:
    """Return what images take in an engine, which keeps a layer once, and layers in the cache."""
    sizes = {layer.diff_id: layer.size_bytes for image in images for layer in image.built.layers}
    return sum(sizes.values()) + sum(layer.facts.size_bytes for layer in layers)
