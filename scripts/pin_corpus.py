"""Pins the newest releases of the corpus's projects: ``pin_corpus.py FILE``. The index is the one that pip would ask.

Projects, licences and splits below were chosen and read by people; a release whose metadata does not say the licence is
left out and told.
"""

import io
import re
import sys
import tarfile
from pathlib import Path

import msgspec

from envfarm.training.corpus_sources import Source, SourceList, parse_sources
from task_miner.sources.release_index import Release, ReleaseIndex

TRAIN = {
    "Apache-2.0": "aiohttp coverage moto nltk requests tornado xarray",
    "BSD-3-Clause": "astropy celery dask distributed django ipython networkx pandas scikit-learn scrapy starlette"
    " sympy",
    "BSD-2-Clause": "sphinx",
    "MIT": "alembic attrs black jedi mako marshmallow mypy pydantic pytest rich setuptools sqlalchemy tox twisted"
    " urllib3",
}
HELD_OUT = {"BSD-3-Clause": "click flask httpx jinja2", "MIT": "tomlkit"}
SAYS = {"Apache-2.0": r"Apache", "BSD-3-Clause": r"BSD", "BSD-2-Clause": r"BSD", "MIT": r"\bMIT\b"}


def newest(index: ReleaseIndex, project: str) -> Release:
    """Return the newest release that is no preview."""
    releases = [release for release in index.sdists(project) if not release.version.is_prerelease]
    return releases[-1]


def says(content: bytes, licence: str) -> bool:
    """Return whether the metadata of a sdist names a licence."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            if re.fullmatch(r"[^/]+/PKG-INFO", member.name):
                stream = tar.extractfile(member)
                head = stream.read().split(b"\n\n")[0].decode("utf-8", "replace") if stream else ""
                lines = [line for line in head.splitlines() if re.match(r"(?i)licen[sc]e|classifier: licen[sc]e", line)]
                return bool(re.search(SAYS[licence], "\n".join(lines)))
    return False


def main() -> None:
    """Ask the index, and write the list."""
    sources = []
    with ReleaseIndex() as index:
        for split, groups in (("train", TRAIN), ("held_out", HELD_OUT)):
            for licence, projects in groups.items():
                for project in projects.split():
                    release = newest(index, project)
                    if not says(index.download(release), licence):
                        sys.stderr.write(f"{project}: its metadata does not say {licence}; left out\n")
                        continue
                    version = str(release.version)
                    sources.append(Source(project, version, release.filename, release.sha256, licence, split))
                    sys.stderr.write(f"{release.filename}\n")
    content = msgspec.json.format(msgspec.json.encode(SourceList(1, tuple(sources))), indent=1) + b"\n"
    parse_sources(content, "the list")
    Path(sys.argv[1]).write_bytes(content)


if __name__ == "__main__":
    main()
