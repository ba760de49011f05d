"""The images that tasks of other makers were built to, as the engine knows them: no record of ours says more.

When one was used last is when it got its name last, so whoever uses one names it again.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress

from envfarm.errors import ContainerImageMissingError
from envfarm.images.built_images import KnownImage
from envfarm.records.image import BuiltImage, ImageLayer
from envfarm.sandbox.docker.engine import Engine, ImageFacts

FOREIGN_LABEL = "envfarm.foreign"
FOREIGN_REPOSITORY = "envfarm-foreign"


def foreign_images(engine: Engine) -> list[KnownImage]:
    """Return them; layers that images of other people have as well count for nothing, since they stay anyway."""
    ours = frozenset(engine.list_images(FOREIGN_LABEL))
    if not ours:
        return []
    images = list(_facts_of_all(engine))
    sizes = {image.layers: image.size_bytes for image in images}
    named = [image for image in images if image.image_id not in ours and image.tags]
    needed = frozenset(layer for image in named for layer in image.layers)
    return [_known(image, sizes, needed) for image in images if image.image_id in ours]


def layer_sizes(layers: tuple[str, ...], known: Mapping[tuple[str, ...], int]) -> dict[str, int]:
    """Return what the layers of an image take: an engine tells sizes of whole images only.

    Args:
        layers: Digests, first to last.
        known: Sizes of images by their layers, the image itself and the steps of its build among them. Where no image
            ends with a layer, the next one that one ends with counts for both.
    """
    sizes, below = dict.fromkeys(layers, 0), 0
    for count, layer in enumerate(layers, start=1):
        size = known.get(layers[:count])
        if size is not None:
            sizes[layer], below = max(size - below, 0), size
    return sizes


def _known(image: ImageFacts, sizes: Mapping[tuple[str, ...], int], needed: frozenset[str]) -> KnownImage:
    names = [tag for tag in image.tags if tag.startswith(f"{FOREIGN_REPOSITORY}:")]
    reference = names[0] if names else image.image_id
    layers = tuple(
        ImageLayer(name="foreign", diff_id=layer, size_bytes=size)
        for layer, size in layer_sizes(image.layers, sizes).items()
        if layer not in needed
    )
    built = BuiltImage(
        task_id=reference, task_digest="", image_id=image.image_id, reference=reference, base="", layers=layers
    )
    return KnownImage(built=built, used_at=image.tagged_at)


def _facts_of_all(engine: Engine) -> Iterator[ImageFacts]:
    for image_id in engine.list_images():
        with suppress(ContainerImageMissingError):  # removed meanwhile
            yield engine.image_facts(image_id)
