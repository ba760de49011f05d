"""Builds a corpus from pinned releases: one archive in memory at a time, one finished part on disk for each.

Archives are read, never unpacked, and nothing of them is run. A part appears by a rename, so that a run that was
interrupted goes on with the next release. Disk holds the parts and then the corpus; parts go when it is complete.
"""

import hashlib
import io
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

import msgspec

from envfarm.errors import BoundaryError, OutputFolderError, SettingsError
from envfarm.training.corpus import MANIFEST, SPLITS, Document, digest_of, split_file
from envfarm.training.corpus_filter import DOMAINS, MOST_BYTES, Drop, SeenLines, read_text, reason_for_path
from envfarm.training.corpus_sources import Source, SourceList

_PARTS = "parts"
_MOST_MEMBERS = 200_000


class SourceMismatchError(BoundaryError):
    """An archive is not the one that was pinned, or cannot be read as one; nothing of it was used."""

    code = "corpus_source"
    retryable = False


class SdistIndex(Protocol):
    """Where pinned archives come from."""

    def read(self, project: str, filename: str) -> bytes:
        """Return an sdist's bytes; they are checked by the caller."""


class Observer(Protocol):
    """Who is told of progress."""

    def fetched(self, source: Source, documents: int, text_bytes: int) -> None:
        """Take note of a release that is done; zeros where an earlier run did it."""


def fetch_corpus(
    listed: SourceList, index: SdistIndex, folder: Path, *, most_project_bytes: int, observer: Observer
) -> None:
    """Build the corpus; afterwards `folder` has both splits and a manifest. Does nothing where it is complete already.

    Args:
        listed: The pinned releases.
        index: Where they come from.
        folder: Made if need be. An interrupted run of the same list goes on there; another list's is refused.
        most_project_bytes: Of a larger project so much text is taken, by the order of hashed paths.
        observer: Told after each release.

    Raises:
        OutputFolderError: Something else lies there, or it cannot be written.
        SourceMismatchError: An archive is not what was pinned.
    """
    wanted = _identity(listed, most_project_bytes)
    try:
        if _is_complete(folder, wanted):
            return
        parts = folder / _PARTS
        parts.mkdir(parents=True, exist_ok=True)
        for source in listed.sources:
            part = parts / f"{source.project}-{source.sha256[:16]}-{most_project_bytes}.jsonl"
            if part.is_file():
                observer.fetched(source, 0, 0)
                continue
            documents, dropped = _read_source(source, index, most_project_bytes)
            _write_part(part, documents, dropped)
            observer.fetched(source, len(documents), sum(len(document.text) for document in documents))
        _merge(listed, parts, folder, most_project_bytes, wanted)
        shutil.rmtree(parts)
    except OSError as error:
        message = f"{folder}: cannot be written: {error.strerror}: {error.filename}"
        raise OutputFolderError(message) from error


def _identity(listed: SourceList, most_project_bytes: int) -> str:
    """Return what tells one list's corpus from another's."""
    return hashlib.sha256(msgspec.json.encode([listed, most_project_bytes])).hexdigest()


def _is_complete(folder: Path, wanted: str) -> bool:
    manifest = folder / MANIFEST
    if not manifest.is_file():
        if folder.is_dir() and any(path.name != _PARTS for path in folder.iterdir() if path.suffix != ".unfinished"):
            message = f"{folder}: something else lies there: name a new folder"
            raise OutputFolderError(message)
        return False
    try:
        written = msgspec.json.decode(manifest.read_bytes(), type=dict)
    except msgspec.DecodeError as error:
        message = f"{manifest}: {error}: remove the folder, and fetch again"
        raise OutputFolderError(message) from error
    if written.get("identity") != wanted:
        message = f"{folder}: another list's corpus lies there: name a new folder"
        raise OutputFolderError(message)
    return True


def _read_source(source: Source, index: SdistIndex, most_bytes: int) -> tuple[list[Document], Counter[str]]:
    content = index.read(source.project, source.filename)
    found = hashlib.sha256(content).hexdigest()
    if found != source.sha256:
        message = f"{source.filename} has the digest {found}, and {source.sha256} is pinned: nothing of it is used"
        raise SourceMismatchError(message)
    dropped: Counter[str] = Counter()
    documents: list[Document] = []
    taken = 0
    files = sorted(_members(source, content), key=lambda member: hashlib.sha256(str(member[0]).encode()).digest())
    for path, file in files:
        text = read_text(file)
        if isinstance(text, Drop):
            dropped[text] += 1
        elif taken + len(text) > most_bytes:
            dropped[Drop.OVER_SHARE] += 1
        else:
            documents.append(Document(source.project, str(path), DOMAINS[path.suffix], text))
            taken += len(text)
    return documents, dropped


def _members(source: Source, content: bytes) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield the files whose names are right; links and whatever is too large are never read."""
    try:
        if source.filename.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for info in archive.infolist()[:_MOST_MEMBERS]:
                    path = _inside(info.filename)
                    if not info.is_dir() and info.file_size <= MOST_BYTES and reason_for_path(path) is None:
                        yield path, archive.read(info)
            return
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            for count, member in enumerate(tar):
                path = _inside(member.name)
                if count >= _MOST_MEMBERS:
                    break
                if member.isreg() and member.size <= MOST_BYTES and reason_for_path(path) is None:
                    stream = tar.extractfile(member)
                    if stream is not None:
                        yield path, stream.read()
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        message = f"{source.filename} cannot be read as an archive: {error}"
        raise SourceMismatchError(message) from error


def _inside(name: str) -> PurePosixPath:
    """Return a member's path without the folder that all members lie in."""
    parts = PurePosixPath(name).parts
    return PurePosixPath(*parts[1:]) if len(parts) > 1 else PurePosixPath(name)


def _write_part(path: Path, documents: Sequence[Document], dropped: Counter[str]) -> None:
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as stream:
        stream.write(msgspec.json.encode(dropped) + b"\n")
        stream.writelines(msgspec.json.encode(document) + b"\n" for document in documents)
    unfinished.replace(path)


def _merge(listed: SourceList, parts: Path, folder: Path, most_project_bytes: int, identity: str) -> None:
    """Write both splits without duplicates: what is held out first, so that no copy of it is in the other."""
    seen = SeenLines()
    told: dict[str, dict[str, object]] = {}
    for split in reversed(SPLITS):
        unfinished = split_file(folder, split).with_suffix(".unfinished")
        with unfinished.open("wb") as stream:
            for source in listed.sources:
                if source.split != split:
                    continue
                part = parts / f"{source.project}-{source.sha256[:16]}-{most_project_bytes}.jsonl"
                dropped, documents = _read_part(part)
                kept = [document for document in documents if seen.add_if_new(document.text)]
                dropped[Drop.DUPLICATE] += len(documents) - len(kept)
                stream.writelines(msgspec.json.encode(document) + b"\n" for document in kept)
                text_bytes = sum(len(document.text.encode()) for document in kept)
                counts = {"documents": len(kept), "text_bytes": text_bytes, "dropped": dict(sorted(dropped.items()))}
                told[source.project] = {**msgspec.to_builtins(source), **counts}
        unfinished.replace(split_file(folder, split))
    manifest = {
        "identity": identity,
        "most_project_bytes": most_project_bytes,
        "sha256": {split: digest_of(folder, split) for split in SPLITS},
        "projects": [told[source.project] for source in listed.sources],
    }
    unfinished = folder / f"{MANIFEST}.unfinished"
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    unfinished.replace(folder / MANIFEST)


def _read_part(path: Path) -> tuple[Counter[str], list[Document]]:
    first, *rest = path.read_bytes().splitlines()
    try:
        dropped = Counter(msgspec.json.decode(first, type=dict[str, int]))
        return dropped, [msgspec.json.decode(line, type=Document) for line in rest]
    except msgspec.DecodeError as error:
        message = f"{path}: {error}: remove it, and fetch again"
        raise SettingsError(message) from error
