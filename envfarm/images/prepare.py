"""prepare_image(): a task's image on this machine, made from the bytes of its folder and cached by them."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio.to_thread

from envfarm.errors import Attribution, ImageBuildError
from envfarm.images.environment_store import EnvironmentStore
from envfarm.images.unpack import FolderCache, unpack_archive, write_files
from envfarm.records.image import Folder, FolderAccess, Image
from envfarm.records.task import PROJECT_FOLDER, WORKSPACE_ARCHIVE, TaskPackage
from envfarm.sandbox.contract import ENVIRONMENT, PROJECT, WORKSPACE, SandboxProvider


async def prepare_image(
    package: TaskPackage,
    *,
    provider: SandboxProvider,
    cache_folder: Path,
    report: Callable[[str], None] | None = None,
    workspaces: Path | None = None,
) -> Image:
    """Return the task's image, ready to lease; what is missing on this machine is installed and unpacked first.

    Args:
        package: The task.
        provider: Leases the box that installs, with the network, once per lock.
        cache_folder: envfarm's cache on this machine.
        report: Is told in one line what takes long.
        workspaces: Where the workspace is unpacked; by default in the cache, where it stays and others may be using it.

    Raises:
        TaskError: An archive of the task is damaged.
        ImageBuildError: The environment cannot be installed.
        MissingToolError: The interpreter is not here and cannot be brought.
    """
    store = EnvironmentStore(cache_folder, provider)
    environment = package.task.environment
    if report is not None and not store.path_of(environment).is_dir():
        report(f"installing the environment {environment.environment_id}")
    folders = await store.ensure(environment)
    places = FolderCache(workspaces or cache_folder / "workspaces")
    project, workspace = await anyio.to_thread.run_sync(_unpack, package, cache_folder, places)
    return compose_image(folders, project=project, workspace=workspace, variables=environment.environment_variables)


def compose_image(
    environment_folders: tuple[Folder, ...], *, project: Path, workspace: Path, variables: Mapping[str, str]
) -> Image:
    """Return an image made of folders on this machine."""
    folders = (
        *environment_folders,
        Folder(source=str(project), target=str(PROJECT)),
        Folder(source=str(workspace), target=str(WORKSPACE), access=FolderAccess.COPY_ON_WRITE),
    )
    names = "\n".join(f"{folder.source} {folder.target} {folder.access}" for folder in folders)
    return Image(
        image_id=f"folders-{hashlib.sha256(names.encode()).hexdigest()[:16]}",
        folders=folders,
        environment_variables={"VIRTUAL_ENV": str(ENVIRONMENT), **variables},
    )


async def forget_workspace(package: TaskPackage, *, workspaces: Path) -> None:
    """Remove the unpacked workspace of a task from a place of the caller's own.

    Never from the cache itself: tests that run in a copy of a workspace see its files vanish, and fail.
    """
    folder = FolderCache(workspaces).path_of(package.files[WORKSPACE_ARCHIVE])
    await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


def _unpack(package: TaskPackage, cache_folder: Path, workspaces: FolderCache) -> tuple[Path, Path]:
    prefix = f"{PROJECT_FOLDER}/"
    files = {path[len(prefix) :]: content for path, content in package.files.items() if path.startswith(prefix)}
    programs = frozenset(path[len(prefix) :] for path in package.executable if path.startswith(prefix))
    projects = FolderCache(cache_folder / "projects")
    told = [text for path in sorted(files) for text in (path.encode(), files[path], bytes([path in programs]))]
    project = projects.path_of(*told)
    archive = package.files[WORKSPACE_ARCHIVE]
    workspace = workspaces.path_of(archive)
    try:
        if not project.is_dir():
            with projects.filled(project) as partial:
                write_files(files, partial, executables=programs)
        if not workspace.is_dir():
            with workspaces.filled(workspace) as partial:
                unpack_archive(WORKSPACE_ARCHIVE, archive, partial)
    except OSError as error:
        message = f"the task's image cannot be stored in the cache: {error}"
        raise ImageBuildError(message, attribution=Attribution.FARM) from error
    return project, workspace
