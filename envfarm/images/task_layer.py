"""The layer of one task: the workspace at its base, owned by who works in it, and the installed project's metadata."""

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace

from envfarm.errors import TaskError
from envfarm.formats.git_pack import build_pack, read_whole_pack
from envfarm.formats.xz_stream import decompress
from envfarm.images.history_deltas import pack_with_deltas
from envfarm.images.layer_archive import LAYER_TIME, LayerEntry, giver
from envfarm.images.recipe import USER
from envfarm.records.task import PROJECT_FOLDER, WORKSPACE_ARCHIVE, TaskPackage
from envfarm.sandbox.contract import PROJECT, WORKSPACE

_ROOT = str(WORKSPACE).lstrip("/")
_PACK = re.compile(r"\.git/objects/pack/pack-[0-9a-f]{40}\.(pack|idx)\Z")


def task_entries(package: TaskPackage) -> list[LayerEntry]:
    """Return the files of a task: `WORKSPACE` and `PROJECT`.

    Raises:
        TaskError: Its workspace archive is damaged, or holds what no workspace needs.
    """
    return [*_workspace_entries(package), *_project_entries(package)]


def _project_entries(package: TaskPackage) -> list[LayerEntry]:
    prefix = f"{PROJECT_FOLDER}/"
    root = str(PROJECT).lstrip("/")
    entries = [LayerEntry(path=root)]
    for path, content in sorted(package.files.items()):
        if path.startswith(prefix):
            mode = 0o755 if path in package.executable else 0o644
            entries.append(LayerEntry(path=f"{root}/{path.removeprefix(prefix)}", mode=mode, read=giver(content)))
    return entries


def workspace_files(package: TaskPackage) -> dict[str, LayerEntry]:
    """Return the files and links of the task's workspace by path, as they lie in its image.

    Raises:
        TaskError: Its workspace archive is damaged, or holds what no workspace needs.
    """
    try:
        return _with_small_pack(_read_archive(package.files[WORKSPACE_ARCHIVE]))
    except (KeyError, tarfile.TarError, ValueError, EOFError) as error:
        message = f"{WORKSPACE_ARCHIVE}: this archive is damaged ({' '.join(str(error).split())}): get the task again"
        raise TaskError(message) from error


def _workspace_entries(package: TaskPackage) -> list[LayerEntry]:
    files = workspace_files(package)
    newest = max((file.modified_at for file in files.values()), default=LAYER_TIME)
    folders = {parent for path in files for parent in _parents(path)} | {""}
    if folders & files.keys():
        message = f"{WORKSPACE_ARCHIVE}: the archive writes through {min(folders & files.keys())}, which is no folder"
        raise TaskError(message)
    made = [LayerEntry(path=f"{_ROOT}/{path}".rstrip("/"), owner=USER, modified_at=newest) for path in sorted(folders)]
    return [*made, *files.values()]


def _read_archive(packed: bytes) -> dict[str, LayerEntry]:
    """Return files and links by their path in the workspace; folders are implied."""
    files: dict[str, LayerEntry] = {}
    with tarfile.open(fileobj=io.BytesIO(decompress(packed)), mode="r:", errors="surrogateescape") as archive:
        for member in archive:
            if member.name.startswith("/") or not {"", ".", ".."}.isdisjoint(member.name.split("/")):
                message = f"it holds the path {member.name!r}"
                raise ValueError(message)
            plain = LayerEntry(path=f"{_ROOT}/{member.name}", owner=USER, modified_at=int(member.mtime))
            if member.issym():
                files[member.name] = replace(plain, link_target=member.linkname)
            elif member.isreg() and not member.issparse():
                content = archive.extractfile(member)
                read = giver(content.read() if content is not None else b"")
                files[member.name] = replace(plain, mode=0o755 if member.mode & 0o100 else 0o644, read=read)
            elif not member.isdir():
                message = f"it holds {member.name!r}, which is no plain file, folder or link"
                raise ValueError(message)
    return files


def _with_small_pack(files: dict[str, LayerEntry]) -> dict[str, LayerEntry]:
    """Return the files with a repository whose old versions are told by newer ones; any other stays as it is."""
    names = sorted(path for path in files if _PACK.match(path))
    reads = [files[name].read for name in names if name.endswith(".pack")]
    if len(names) != 2 or len(reads) != 1 or reads[0] is None:  # noqa: PLR2004 -- a pack and its index
        return files
    try:
        objects, deltas = pack_with_deltas(read_whole_pack(reads[0]()))
    except ValueError:  # of another make, which git can read
        return files
    name, pack, index = build_pack(objects, deltas)
    kept = {path: entry for path, entry in files.items() if path not in names}
    for suffix, content in (("pack", pack), ("idx", index)):
        path = f".git/objects/pack/pack-{name}.{suffix}"
        kept[path] = replace(files[names[0]], path=f"{_ROOT}/{path}", read=giver(content))
    return kept


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path
