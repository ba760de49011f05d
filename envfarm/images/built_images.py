"""Which images this machine has built, and when each was used last: one small file per task in the cache."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from envfarm.errors import RecordError
from envfarm.records.image import BuiltImage, ImageCertificate
from envfarm.records.versioned import Record, RecordT, decode_line, encode_line


@dataclass(frozen=True, kw_only=True)
class KnownImage:
    """A built image.

    Attributes:
        built: What was built.
        used_at: When it was built or leased last, in seconds since the epoch.
    """

    built: BuiltImage
    used_at: float


class BuiltImages:
    """The built images of a cache folder."""

    def __init__(self, cache_folder: Path) -> None:
        """Take envfarm's cache folder."""
        self._folder = cache_folder / "images"

    def all(self) -> Iterator[KnownImage]:
        """Yield all of them; a damaged file counts as none."""
        for path in sorted(self._folder.glob("*.image.json")):
            built = _read(path, BuiltImage)
            with suppress(FileNotFoundError):  # forgotten meanwhile
                if built is not None:
                    yield KnownImage(built=built, used_at=path.stat().st_mtime)

    def find(self, task_digest: str) -> BuiltImage | None:
        """Return what was built of a task, if anything; counts as use."""
        path = self._path(task_digest, "image")
        built = _read(path, BuiltImage)
        if built is not None:
            with suppress(FileNotFoundError):  # forgotten meanwhile: the engine says whether the image is there
                os.utime(path)
        return built

    def add(self, built: BuiltImage) -> None:
        """Remember an image in place of any other of its task."""
        _write(self._path(built.task_digest, "image"), built)

    def forget(self, task_digest: str) -> None:
        """Forget a task's image and its certificate."""
        self._path(task_digest, "image").unlink(missing_ok=True)
        self._path(task_digest, "certificate").unlink(missing_ok=True)

    def certify(self, certificate: ImageCertificate) -> None:
        """Keep the certificate of a task's image."""
        _write(self._path(certificate.task_digest, "certificate"), certificate)

    def certificate_of(self, built: BuiltImage) -> ImageCertificate | None:
        """Return the certificate of this very image; None where there is none, or one of another image only."""
        found = _read(self._path(built.task_digest, "certificate"), ImageCertificate)
        return found if found is not None and found.image_id == built.image_id else None

    def _path(self, task_digest: str, kind: str) -> Path:
        return self._folder / f"{task_digest.removeprefix('sha256:')}.{kind}.json"


def _write(path: Path, record: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    partial.write_bytes(encode_line(record))
    partial.rename(path)


def _read(path: Path, kind: type[RecordT]) -> RecordT | None:
    try:
        return decode_line(path.read_bytes(), kind)
    except (OSError, RecordError):
        return None
