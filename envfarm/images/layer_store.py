"""Layers that many images share, as archives in the cache: one per interpreter, one per environment.

A layer appears by one rename, whole, under its key and its digest; two processes that make the same one do the work
twice and keep one. Reading one counts as use: what was not used longest goes first when room is short.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from envfarm.errors import Attribution, ImageBuildError
from envfarm.images.layer_archive import LayerEntry, LayerFacts, write_layer
from envfarm.images.unfinished import unfinished_folder

_NAME = re.compile(r"(?P<key>.+)\.(?P<digest>[0-9a-f]{64})\.tar\Z")


@dataclass(frozen=True, kw_only=True)
class StoredLayer:
    """A layer in the cache.

    Attributes:
        key: What it was made of.
        facts: Its digest and size.
        path: Its archive.
        used_at: When it was used last, in seconds since the epoch.
    """

    key: str
    facts: LayerFacts
    path: Path
    used_at: float


class LayerStore:
    """The stored layers of a cache folder."""

    def __init__(self, cache_folder: Path) -> None:
        """Take envfarm's cache folder."""
        self.folder = cache_folder / "layers"

    def stored(self) -> Iterator[StoredLayer]:
        """Yield the layers that are here."""
        for path in sorted(self.folder.glob("*.tar")):
            match = _NAME.match(path.name)
            if match is not None:
                facts = path.stat()
                known = LayerFacts(diff_id=f"sha256:{match['digest']}", size_bytes=facts.st_size)
                yield StoredLayer(key=match["key"], facts=known, path=path, used_at=facts.st_mtime)

    def ensure(self, key: str, entries: Callable[[], list[LayerEntry]]) -> StoredLayer:
        """Return the layer of a key, made of its entries where it is not here yet; counts as use.

        Raises:
            ImageBuildError: It cannot be written, or what it is made of cannot be read; nothing half-made is left.
        """
        for layer in self.stored():
            if layer.key == key:
                os.utime(layer.path)
                return layer
        try:
            with unfinished_folder(self.folder) as partial:
                with (partial / "layer.tar").open("wb") as file:
                    facts = write_layer(entries(), file)
                path = self.folder / f"{key}.{facts.diff_id.removeprefix('sha256:')}.tar"
                (partial / "layer.tar").rename(path)
        except (OSError, ValueError) as error:
            message = f"the layer {key} cannot be made: {error}"
            raise ImageBuildError(message, attribution=Attribution.FARM) from error
        return StoredLayer(key=key, facts=facts, path=path, used_at=path.stat().st_mtime)
