"""`envfarm train fetch-corpus`: permissively licensed source releases, pinned and checked, as a corpus."""

from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from envfarm.errors import RepositoryError, SettingsError
from envfarm.training.corpus import MANIFEST
from envfarm.training.corpus_fetch import fetch_corpus
from envfarm.training.corpus_sources import Source, parse_sources
from task_miner.sources.release_index import ReleaseIndex

FETCH_EXAMPLE = "Example: envfarm train fetch-corpus --out corpus"
_LIST = "corpus_sources.json"


def fetch_corpus_command(
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the corpus goes.")],
    sources: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A list of pinned releases; ours if absent.")
    ] = None,
    most_project_mb: Annotated[int, typer.Option(min=1, help="Most text of one project, in MB.")] = 3,
) -> None:
    """Download pinned releases from the package index, check their digests, and make a corpus of their files.

    The index is the one that pip or uv would ask. Files that are generated, vendored, may hold a secret, or copy others
    are left out; manifest.json counts them, beside licences and digests. Run it again to go on after an interruption.
    """
    listed = parse_sources(_read_list(sources), _LIST if sources is None else str(sources))
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with _PinnedIndex() as index, bar:
        task = bar.add_task("releases", total=len(listed.sources))

        class _Bar:
            def fetched(self, source: Source, documents: int, text_bytes: int) -> None:
                what = f"{source.filename}: {documents:,} files, {text_bytes / 1e6:.1f} MB"
                bar.update(task, advance=1, description=what if documents else source.filename)

        fetch_corpus(listed, index, out, most_project_bytes=most_project_mb * 1_000_000, observer=_Bar())
    splits = Counter(source.split for source in listed.sources)
    typer.echo(f"{out / MANIFEST}: {splits['train']} projects to train on, {splits['held_out']} held out")


def _read_list(path: Path | None) -> bytes:
    try:
        return (files("envfarm.training") / _LIST).read_bytes() if path is None else path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
        raise SettingsError(message) from error


class _PinnedIndex(ReleaseIndex):
    """The user's package index, asked for archives by name."""

    def read(self, project: str, filename: str) -> bytes:
        """Return an archive's bytes."""
        for release in self.sdists(project):
            if release.filename == filename:
                return self.download(release)
        message = f"the package index has no {filename} any more: name another list with --sources"
        raise RepositoryError(message)
