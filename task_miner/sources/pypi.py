"""A history made of releases: each sdist of a project becomes one commit, in order of versions, with its upload date.

Nothing of a release is run. An sdist is a stranger's archive: it is read in memory, member by member, and only regular
files below its one top folder are taken. What packaging adds (PKG-INFO, egg-info) is left out, so that diffs are about
code. The same releases give the same commit ids everywhere.
"""

import hashlib
import io
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from packaging.version import InvalidVersion, Version

from envfarm.errors import RepositoryError, SettingsError
from envfarm.images import unfinished_folder
from task_miner.sources.git_command import git_arguments, git_environment, run_git
from task_miner.sources.release_index import Release, ReleaseIndex

_SPEC = re.compile(r"pypi:(?P<name>[A-Za-z0-9][\w.-]*)(?:\[(?P<first>[^\]]*?)\.\.(?P<last>[^\]]*)\])?")
_DROPPED = re.compile(r"(^|/)(PKG-INFO|[^/]+\.egg-info(/.*)?|\.git(/.*)?|__pycache__(/.*)?|[^/]+\.py[co])\Z")
_LARGEST_FILE = 8 << 20
_LARGEST_RELEASE = 200 << 20
_AUTHOR = b"releases <releases@envfarm.invalid>"


@dataclass(frozen=True, kw_only=True)
class ReleaseRange:
    """What ``pypi:NAME[A..B]`` asks for; bounds are inclusive, None for none."""

    name: str
    first: Version | None
    last: Version | None

    def holds(self, version: Version) -> bool:
        """Say whether a version is in the range; pre-releases are, only where a bound is one."""
        if (self.first is not None and version < self.first) or (self.last is not None and version > self.last):
            return False
        wanted = any(bound is not None and bound.is_prerelease for bound in (self.first, self.last))
        return wanted or not version.is_prerelease


def parse_range(spec: str) -> ReleaseRange:
    """Return what the text asks for.

    Raises:
        SettingsError: It is malformed, a bound is no version, or the bounds are the wrong way round.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        message = (
            f"{spec!r} is no range of releases: write pypi:NAME, or pypi:NAME[1.0..2.0] with either bound left out"
        )
        raise SettingsError(message)
    bounds = []
    for text in (match["first"], match["last"]):
        try:
            bounds.append(Version(text.strip()) if text and text.strip() else None)
        except InvalidVersion as error:
            message = f"{text!r} in {spec!r} is no version: write one such as 1.2.3"
            raise SettingsError(message) from error
    first, last = bounds
    if first is not None and last is not None and first > last:
        message = f"{spec!r} is empty: {first} comes after {last}; turn the bounds round"
        raise SettingsError(message)
    return ReleaseRange(name=match["name"].lower(), first=first, last=last)


def open_releases(spec: str, *, cache_folder: Path, report: Callable[[str], None]) -> tuple[Path, str]:
    """Return a bare repository of the releases, from the cache where they are the same, and the project's name.

    Raises:
        SettingsError: The range is malformed.
        RepositoryError: The project, its releases or the index cannot be had.
    """
    wanted = parse_range(spec)
    with ReleaseIndex() as index:
        report(f"asking the package index for the releases of {wanted.name}")
        releases = [release for release in index.sdists(wanted.name) if wanted.holds(release.version)]
        if len(releases) < 2:  # noqa: PLR2004 -- one release has no difference to another
            message = f"{spec} has {len(releases)} releases with an sdist: name a range that holds at least two"
            raise RepositoryError(message)
        digest = hashlib.sha256("\n".join(f"{item.version} {item.sha256}" for item in releases).encode()).hexdigest()
        folder = cache_folder / "clones" / f"pypi-{wanted.name}-{digest[:16]}.git"
        if not folder.is_dir():
            _import(releases, folder, index, cache_folder, report)
    return folder, re.sub(r"[-_.]+", "-", wanted.name)


def _import(
    releases: list[Release], folder: Path, index: ReleaseIndex, cache_folder: Path, report: Callable[[str], None]
) -> None:
    with unfinished_folder(folder.parent) as partial:
        run_git(None, "init", "--quiet", "--bare", "--initial-branch=main", str(partial / "repository"))
        with subprocess.Popen(
            git_arguments(partial / "repository", "fast-import", "--quiet", "--done"),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=git_environment(),
            process_group=0,
        ) as process:
            if process.stdin is None or process.stderr is None:
                return
            for number, release in enumerate(releases, start=1):
                report(f"release {number} of {len(releases)}: {release.project} {release.version}")
                content = _fetch(release, index, cache_folder)
                process.stdin.writelines(_commit(release, dict(read_sdist(release.filename, content))))
            process.stdin.write(b"done\n")
            process.stdin.close()
            said = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        if process.returncode != 0:
            message = f"the releases could not be imported: {said[-1] if said else 'git fast-import failed'}"
            raise RepositoryError(message)
        (partial / "repository").rename(folder)


def _fetch(release: Release, index: ReleaseIndex, cache_folder: Path) -> bytes:
    """Return the sdist's bytes, checked against the digest that the index gives."""
    path = cache_folder / "sdists" / release.sha256[:32]
    if path.is_file():
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == release.sha256:
            return content
    content = index.download(release)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_bytes(content)
    temporary.replace(path)
    return content


def read_sdist(filename: str, content: bytes) -> Iterator[tuple[str, tuple[bool, bytes]]]:
    """Yield (path below the top folder, (executable, content)) of an sdist's regular files.

    Raises:
        RepositoryError: The archive is damaged, or larger than any sdist.
    """
    total = 0
    try:
        members = _zip_members(content) if filename.endswith(".zip") else _tar_members(content)
        for name, executable, data in members:
            parts = PurePosixPath(name).parts
            path = "/".join(parts[1:])
            if len(parts) < 2 or parts[0] == "/" or ".." in parts or _DROPPED.search(path):  # noqa: PLR2004 -- top/file
                continue
            total += len(data)
            if total > _LARGEST_RELEASE:
                message = (
                    f"{filename} holds more than {_LARGEST_RELEASE >> 20} MiB: leave that release out of the range"
                )
                raise RepositoryError(message)
            yield path, (executable, data)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        message = f"{filename} is damaged ({error}): leave that release out of the range"
        raise RepositoryError(message) from error


def _tar_members(content: bytes) -> Iterator[tuple[str, bool, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() and member.size <= _LARGEST_FILE else None
            if file is not None:
                yield member.name, bool(member.mode & 0o100), file.read()


def _zip_members(content: bytes) -> Iterator[tuple[str, bool, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            if not member.is_dir() and member.file_size <= _LARGEST_FILE:
                yield member.filename, bool(member.external_attr >> 16 & 0o100), archive.read(member)


def _commit(release: Release, files: Mapping[str, tuple[bool, bytes]]) -> Iterator[bytes]:
    message = f"{release.project} {release.version}\n".encode()
    yield b"commit refs/heads/main\n"
    yield b"author %s %d +0000\n" % (_AUTHOR, release.uploaded_at)
    yield b"committer %s %d +0000\n" % (_AUTHOR, release.uploaded_at)
    yield b"data %d\n%s\ndeleteall\n" % (len(message), message)
    for path, (executable, data) in sorted(files.items()):
        name = path.encode("utf-8", "surrogateescape")
        if b"\n" in name or b'"' in name:
            continue
        yield b'M %s inline "%s"\ndata %d\n' % (
            b"100755" if executable else b"100644",
            name.replace(b"\\", rb"\\"),
            len(data),
        )
        yield data + b"\n"
