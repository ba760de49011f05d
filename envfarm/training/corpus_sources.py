"""Which releases the corpus is made of: pinned by version and digest, with licences, in a file of this package. PURE.

A project belongs to one split as a whole, so that nothing held out was seen in training.
"""

from typing import Literal

import msgspec

from envfarm.errors import SettingsError

PERMISSIVE = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "MIT",
        "MIT OR Apache-2.0",
        "Apache-2.0 OR BSD-3-Clause",
    }
)
"""Licences that a source may have; everything else is refused by name."""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One pinned release.

    Attributes:
        project: Its name on the package index.
        version: Its version.
        filename: The sdist's name.
        sha256: The sdist's digest, in hexadecimal digits.
        licence: SPDX expression; one of `PERMISSIVE`.
        split: What its files are for.
    """

    project: str
    version: str
    filename: str
    sha256: str
    licence: str
    split: Literal["train", "held_out"]


class SourceList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of them, in the order in which they are read."""

    version: Literal[1]
    sources: tuple[Source, ...]


def parse_sources(content: bytes, name: str) -> SourceList:
    """Return the list that a file holds; `name` is what messages call it.

    Raises:
        SettingsError: It is malformed, names a project twice, or has a licence that is not permissive.
    """
    try:
        found = msgspec.json.decode(content, type=SourceList)
    except msgspec.DecodeError as error:
        message = f"{name}: {error}"
        raise SettingsError(message) from error
    projects = [source.project for source in found.sources]
    twice = sorted({project for project in projects if projects.count(project) > 1})
    if twice:
        message = f"{name}: {twice[0]} is there twice: a project has one release and one split"
        raise SettingsError(message)
    for source in found.sources:
        if source.licence not in PERMISSIVE:
            message = (
                f"{name}: {source.project} has the licence {source.licence!r}, which is none of the permissive ones"
            )
            raise SettingsError(message)
    return found
