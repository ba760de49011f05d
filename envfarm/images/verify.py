"""verify_image(): builds a task's image again, in another folder and from the lock up, and compares the ids."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import anyio.to_thread

from envfarm.images.builder import ImageWorks, ensure_environment, made_image
from envfarm.images.image_archive import SavedImage, layer_files, open_saved_image
from envfarm.records.image import BuiltImage
from envfarm.records.task import TaskPackage


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What building again gave.

    Attributes:
        image_id: The image that was built.
        rebuilt_id: The one that building again gives.
        saved_id: Digest of the configuration that the engine gives out; that its layers are whole was seen as well.
        differing: ``environment: opt/venv/...``: layers that differ, with the first file that does.
    """

    image_id: str
    rebuilt_id: str
    saved_id: str
    differing: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return self.image_id == self.rebuilt_id == self.saved_id and not self.differing


async def verify_image(package: TaskPackage, built: BuiltImage, works: ImageWorks) -> Verification:
    """Build again and compare; nothing of it stays, and downloads of the first time are used again.

    Raises:
        ImageBuildError: It cannot be built again.
    """
    with tempfile.TemporaryDirectory(prefix="envfarm-verify-") as name:
        folder = Path(name)
        downloads = works.cache_folder / "uv"
        downloads.mkdir(parents=True, exist_ok=True)
        (folder / "uv").symlink_to(downloads.resolve())
        again = replace(works, cache_folder=folder)
        environment = await ensure_environment(package, again)
        return await anyio.to_thread.run_sync(_compare, package, built, again, environment)


def _compare(package: TaskPackage, built: BuiltImage, works: ImageWorks, environment: Path) -> Verification:
    with (
        made_image(package, works, environment) as made,
        open_saved_image(works.engine, built.reference, works.cache_folder) as saved,
    ):
        differing = []
        for number, (layer, diff_id) in enumerate(zip(built.layers, saved.diff_ids, strict=True)):
            if saved.digest_of(number) != diff_id or layer.diff_id != diff_id:
                differing.append(f"{layer.name}: the engine's layer is not what was built")
        names = {layer.name: layer.diff_id for layer in made.recipe.layers if layer.name != "base"}
        for number, layer in enumerate(built.layers):
            rebuilt = names.get(layer.name)
            if rebuilt is not None and rebuilt != layer.diff_id:
                differing.append(f"{layer.name}: {_first_difference(made.files[rebuilt], saved, number)}")
        return Verification(
            image_id=built.image_id,
            rebuilt_id=made.recipe.image_id,
            saved_id=saved.image_id,
            differing=tuple(differing),
        )


def _first_difference(archive: Path, saved: SavedImage, layer: int) -> str:
    """Return the first path that one of two layers lacks, or has otherwise."""
    with archive.open("rb") as file:
        rebuilt = {item.path: item.content for item in layer_files(file, layer)}
    old = {item.path: item.content for item in saved.files(layer)}
    paths = sorted(path for path in old.keys() | rebuilt.keys() if old.get(path) != rebuilt.get(path))
    return paths[0] if paths else "modes, owners or times"
