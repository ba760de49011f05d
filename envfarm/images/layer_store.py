"""Layers that many images share, as archives in the cache: one per interpreter, one per environment.

A layer appears by one rename, whole, under its key and its digest; two processes that make the same one do the work
twice and keep one. Reading one counts as use: what was not used longest goes first when room is short. Who reads one
holds it by a name in a folder of its own, so that nobody who makes room takes it away.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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
            facts = _facts_of(path) if match is not None else None
            if match is not None and facts is not None:
                known = LayerFacts(diff_id=f"sha256:{match['digest']}", size_bytes=facts.st_size)
                yield StoredLayer(key=match["key"], facts=known, path=path, used_at=facts.st_mtime)

    def ensure(self, key: str, entries: Callable[[], list[LayerEntry]], holder: Path) -> StoredLayer:
        """Return the layer of a key, made of its entries where it is not here yet; counts as use.

        Args:
            key: What it is made of.
            entries: Gives its entries.
            holder: A folder of the cache's; the layer's archive lies there too, whatever becomes of the store's.

        Raises:
            ImageBuildError: It cannot be written, or what it is made of cannot be read; nothing half-made is left.
        """
        try:
            for layer in self.stored():
                if layer.key == key and (held := _held(layer.path, holder)) is not None:
                    return replace(layer, path=held)
            with unfinished_folder(self.folder) as partial:
                with (partial / "layer.tar").open("wb") as file:
                    facts = write_layer(entries(), file)
                path = self.folder / f"{key}.{facts.diff_id.removeprefix('sha256:')}.tar"
                held = holder / path.name
                (partial / "layer.tar").rename(held)
                _put(held, path, holder)
        except (OSError, ValueError) as error:
            message = f"the layer {key} cannot be made: {error}"
            raise ImageBuildError(message, attribution=Attribution.FARM) from error
        return StoredLayer(key=key, facts=facts, path=held, used_at=held.stat().st_mtime)


def _facts_of(path: Path) -> os.stat_result | None:
    """Return a file's facts; None where another process removed it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _held(path: Path, holder: Path) -> Path | None:
    """Return a second name of a layer's archive, in `holder`; None where the first one is gone."""
    held = holder / path.name
    try:
        _put(path, held, holder)
        os.utime(path)
    except FileNotFoundError:
        return held if held.exists() else None
    return held


def _put(source: Path, target: Path, holder: Path) -> None:
    """Give a file another name that appears whole, or a copy where the file system has one name for each."""
    partial = holder / f".{target.name}"
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(target)
    partial.unlink(missing_ok=True)  # renaming does nothing where both are names of one file already
