"""Asks a package index for a project's sdists: the one file that knows `pypi_simple` and its errors."""

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pypi_simple
import requests
from packaging.version import InvalidVersion, Version

from envfarm.errors import RepositoryError
from envfarm.images.installer_settings import read_pip_settings

_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".zip")


@dataclass(frozen=True, kw_only=True)
class Release:
    """One sdist of a project.

    Attributes:
        project: Name of the project.
        version: Its version.
        filename: Name of the archive.
        sha256: Digest that the index gives.
        uploaded_at: Upload time, seconds since the epoch.
        package: The index's own record, for downloading.
    """

    project: str
    version: Version
    filename: str
    sha256: str
    uploaded_at: int
    package: pypi_simple.DistributionPackage


class ReleaseIndex:
    """A package index, the one that the user's pip or uv would ask; use it as a context manager."""

    def __init__(self) -> None:
        """Read the user's settings."""
        environ = os.environ
        pip = read_pip_settings(environ, Path(environ.get("HOME", "/nonexistent")))
        endpoint = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL") or pip.get("index-url")
        session = requests.Session()
        certificates = environ.get("SSL_CERT_FILE") or pip.get("cert")
        if certificates and not environ.get("REQUESTS_CA_BUNDLE"):
            session.verify = certificates
        self._client = pypi_simple.PyPISimple(endpoint or pypi_simple.PYPI_SIMPLE_ENDPOINT, session=session)

    def __enter__(self) -> Self:
        """Open it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close its connections."""
        self._client.s.close()

    def sdists(self, project: str) -> list[Release]:
        """Return the sdists of a project that were not withdrawn, in order of versions.

        Raises:
            RepositoryError: The index does not know the project, or cannot be reached.
        """
        try:
            page = self._client.get_project_page(project, timeout=60)
        except pypi_simple.NoSuchProjectError as error:
            message = f"the package index knows no project {project!r}: check the name in --repo"
            raise RepositoryError(message) from error
        except (requests.RequestException, ValueError) as error:
            message = f"the package index cannot be reached ({type(error).__name__}): check network and index settings"
            raise RepositoryError(message) from error
        found: dict[Version, Release] = {}
        for package in page.packages:
            release = _release(project, package)
            if release is not None and release.version not in found:
                found[release.version] = release
        return [found[version] for version in sorted(found)]

    def download(self, release: Release) -> bytes:
        """Return the sdist's bytes, checked against its digest.

        Raises:
            RepositoryError: It cannot be had, or is not what the index says.
        """
        import hashlib

        try:
            answer = self._client.s.get(release.package.url, timeout=120)
            answer.raise_for_status()
        except requests.RequestException as error:
            message = f"{release.filename} cannot be downloaded ({type(error).__name__}): check the network, then go on"
            raise RepositoryError(message) from error
        if hashlib.sha256(answer.content).hexdigest() != release.sha256:
            message = f"{release.filename} is not what the package index says it is: try again, or ask its operator"
            raise RepositoryError(message)
        return answer.content


def _release(project: str, package: pypi_simple.DistributionPackage) -> Release | None:
    digest = package.digests.get("sha256")
    kept = package.package_type == "sdist" and package.filename.endswith(_SUFFIXES) and not package.is_yanked
    if not kept or digest is None or package.version is None or package.upload_time is None:
        return None
    try:
        version = Version(package.version)
    except InvalidVersion:
        return None
    return Release(
        project=project,
        version=version,
        filename=package.filename,
        sha256=digest,
        uploaded_at=int(package.upload_time.timestamp()),
        package=package,
    )
