"""Image archives as a container engine writes and takes them (``docker save``, ``docker load``)."""

import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from envfarm.errors import Attribution, ImageBuildError
from envfarm.images.recipe import ARCHIVE_END, Recipe, archive_head, layer_path, member_head, padding
from envfarm.images.unfinished import unfinished_folder
from envfarm.sandbox.docker.engine import Engine

_PART_BYTES = 1 << 20


def archive_parts(recipe: Recipe, files: Mapping[str, Path]) -> Iterator[bytes]:
    """Yield an archive that an engine loads.

    Args:
        recipe: The image.
        files: Archives of its layers by digest; those that the engine has already may be left out.
    """
    yield archive_head(recipe)
    for diff_id, path in files.items():
        size = path.stat().st_size
        yield member_head(layer_path(diff_id), size)
        with path.open("rb") as file:
            while part := file.read(_PART_BYTES):
                yield part
        yield padding(size)
    yield ARCHIVE_END


@dataclass(frozen=True, kw_only=True)
class LayerFile:
    """A file, link or folder of a layer.

    Attributes:
        layer: Number of the layer, from 0.
        path: Relative POSIX path.
        is_file: Whether it is a regular file.
        content: What the file holds, or where a link leads.
    """

    layer: int
    path: str
    is_file: bool
    content: bytes


def layer_files(file: IO[bytes], layer: int) -> Iterator[LayerFile]:
    """Yield all that the archive of a layer holds.

    Raises:
        ImageBuildError: It is no archive.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as archive:
            for member in archive:
                path = member.name.removeprefix("./").strip("/")
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield LayerFile(layer=layer, path=path, is_file=True, content=content.read())
                else:
                    link = member.linkname.encode("utf-8", "surrogateescape")
                    yield LayerFile(layer=layer, path=path, is_file=False, content=link)
    except tarfile.TarError as error:
        message = f"layer {layer} of the image cannot be read: {error}"
        raise ImageBuildError(message, attribution=Attribution.FARM) from error


class SavedImage:
    """An image on disk, as an engine gave it; use `open_saved_image`."""

    def __init__(self, archive: tarfile.TarFile, config: bytes, layers: tuple[str, ...]) -> None:
        """Take the open archive, the configuration, and the names of the layers in the archive."""
        self._archive = archive
        self.config = config
        self._layers = layers

    @property
    def image_id(self) -> str:
        """``sha256:`` and the digest of the configuration."""
        return f"sha256:{hashlib.sha256(self.config).hexdigest()}"

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """Digests that the configuration gives the layers."""
        return tuple(json.loads(self.config)["rootfs"]["diff_ids"])

    def digest_of(self, layer: int) -> str:
        """Return the digest of a layer's bytes."""
        with self._open(layer) as file:
            digest = hashlib.sha256()
            while part := file.read(_PART_BYTES):
                digest.update(part)
            return f"sha256:{digest.hexdigest()}"

    def copy_layer(self, layer: int, path: Path) -> None:
        """Write a layer's archive to a file."""
        with self._open(layer) as file, path.open("wb") as copy:
            shutil.copyfileobj(file, copy)

    def files(self, layer: int) -> Iterator[LayerFile]:
        """Yield all that a layer holds, whatever later layers make of it.

        Raises:
            ImageBuildError: It is no archive.
        """
        with self._open(layer) as file:
            yield from layer_files(file, layer)

    def _open(self, layer: int) -> IO[bytes]:
        member = self._archive.getmember(self._layers[layer])
        while member.issym():  # an engine stores equal layers once
            folder = member.name.rpartition("/")[0]
            member = self._archive.getmember(_joined(folder, member.linkname))
        file = self._archive.extractfile(member)
        if file is None:
            message = f"layer {layer} of the image is no file"
            raise ImageBuildError(message, attribution=Attribution.FARM)
        return file


@contextmanager
def open_saved_image(engine: Engine, reference: str, cache_folder: Path) -> Iterator[SavedImage]:
    """Bring an image out of an engine, with all its layers, for the length of the block.

    Raises:
        ContainerImageMissingError: The engine has no such image.
        ImageBuildError: What it gives is no image archive, or the disk is full.
    """
    try:
        with unfinished_folder(cache_folder / "layers") as folder:
            path = folder / "image.tar"
            with path.open("wb") as file:
                for part in engine.save_image(reference):
                    file.write(part)
            with tarfile.open(path, mode="r:") as archive:
                manifest = json.loads(_read(archive, "manifest.json"))[0]
                yield SavedImage(archive, _read(archive, manifest["Config"]), tuple(manifest["Layers"]))
    except (tarfile.TarError, KeyError, OSError, ValueError) as error:
        message = f"the image {reference} cannot be read: {error}"
        raise ImageBuildError(message, attribution=Attribution.FARM) from error


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    return file.read() if file is not None else b""


def _joined(folder: str, target: str) -> str:
    parts: list[str] = folder.split("/") if folder else []
    for part in target.split("/"):
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)
