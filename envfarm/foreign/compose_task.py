"""A Harbor task's docker-compose file becomes the box of the work and the services beside it."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import anyio.to_thread
import msgspec

from envfarm.errors import TaskError
from envfarm.foreign.box import FoundImage
from envfarm.foreign.compose_judge import ImageOrder, JudgedCompose, judge_compose
from envfarm.foreign.compose_mounts import TaskFiles
from envfarm.foreign.compose_source import KEEP_ALIVE, MAIN_SERVICE, ComposeSource, prepare_source
from envfarm.foreign.compose_values import plain
from envfarm.foreign.harbor_plan import BoxPlan
from envfarm.foreign.request import BuildOptions, ImageSource
from envfarm.formats.new_folder import write_file
from envfarm.sandbox.contract import MEBIBYTE
from envfarm.sandbox.docker.compose_command import find_compose, resolve_compose
from envfarm.sandbox.docker.provider import FOLDER_PREFIX, folders_place
from envfarm.sandbox.owner_mark import owner_mark
from envfarm.sandbox.services import Service, ServiceGroup


@dataclass(frozen=True, kw_only=True)
class ComposeBox:
    """What the box of a task with services is made of.

    Attributes:
        found: Its image, with the variables and the user of its service.
        group: The services.
        plan: The box's plan, with the bounds of its service.
    """

    found: FoundImage
    group: ServiceGroup
    plan: BoxPlan


@dataclass(frozen=True, kw_only=True)
class ComposeFolder:
    """The folder of a task whose compose file is used.

    Attributes:
        files: Content by path below the folder.
        programs: Those with the executable bit.
    """

    files: Mapping[str, bytes] = field(repr=False)
    programs: frozenset[str] = frozenset()


async def make_compose_box(
    plan: BoxPlan, folder: ComposeFolder, env: Mapping[str, str], images: ImageSource
) -> ComposeBox:
    """Return what a task's box and services are made of; their images are on this machine then.

    Args:
        plan: The box, whose compose file is used.
        folder: Its folder.
        env: The plan's variables, filled in.
        images: Brings images.

    Raises:
        TaskError: The file is none, or asks for what is not given.
        MissingToolError: There is no compose command.
        ImageBuildError: An image cannot be had, or not in time.
    """
    deadline = time.monotonic() + plan.build_timeout_seconds
    judged = await _judged(plan, folder, env)
    found: dict[str, FoundImage] = {}
    for name in sorted(judged.services, key=lambda name: name != MAIN_SERVICE):
        seconds = max(deadline - time.monotonic(), 1.0)
        found[name] = await _image(judged.images[name], folder, images, seconds)
    main = judged.services[MAIN_SERVICE]
    main = replace(main, env={**main.env, **env})
    own = found[MAIN_SERVICE]
    workdir = own.working_directory if main.working_directory is None else PurePosixPath(main.working_directory)
    group = ServiceGroup(
        main=replace(_without_keep_alive(main), working_directory=str(workdir)),
        others=tuple(
            replace(service, image=found[name].image.image_id)  # never a name, which could be looked for elsewhere
            for name, service in sorted(judged.services.items())
            if name != MAIN_SERVICE
        ),
        networks=judged.networks,
        volumes=judged.volumes,
        start_seconds=plan.build_timeout_seconds,
    )
    image = msgspec.structs.replace(own.image, environment_variables={**own.image.environment_variables, **main.env})
    limits = replace(
        plan.limits,
        memory_bytes=main.bounds.memory_bytes or plan.limits.memory_bytes,
        cpu_cores=main.bounds.cpu_cores or plan.limits.cpu_cores,
        process_count=main.bounds.process_count or plan.limits.process_count,
    )
    return ComposeBox(
        found=replace(own, image=image, working_directory=workdir, user=main.user or own.user),
        group=group,
        plan=replace(plan, limits=limits),
    )


async def _judged(plan: BoxPlan, folder: ComposeFolder, env: Mapping[str, str]) -> JudgedCompose:
    program = find_compose(plan.compose_file)
    prefix = f"{FOLDER_PREFIX}{owner_mark()}"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folders_place()) as place:
        root = f"{place}/{plan.folder}"
        files = TaskFiles(
            told_as=plan.compose_file,
            name=plan.folder,
            root=root,
            content=folder.files,
            programs=folder.programs,
        )
        told = {"MEMORY": f"{plan.limits.memory_bytes // MEBIBYTE}M"}
        told |= {} if plan.limits.cpu_cores is None else {"CPUS": f"{plan.limits.cpu_cores:g}"}
        text = folder.files.get(PurePosixPath(plan.compose_file).name)
        if text is None:
            message = f"{plan.compose_file}: the task's .gitignore leaves it out"
            raise TaskError(message)
        source = prepare_source(text, files, {**told, **env}, plan.image_name)
        await anyio.to_thread.run_sync(_write_opened, Path(root), folder, source)
        try:
            document = await resolve_compose(program, Path(place), root, source.documents, source.variables)
        except ValueError as error:
            reason = str(error).replace(root, plan.folder).replace(f"{place}/", "")
            message = f"{plan.compose_file}: the compose command refuses it: {reason}"
            raise TaskError(message) from error
    return judge_compose(_with_named_image(plain(document), plan.image_name), files)


def _write_opened(root: Path, folder: ComposeFolder, source: ComposeSource) -> None:
    """Write the files that the command opens, and empty folders, since it looks whether those are there."""
    root.mkdir()
    for path in folder.files:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
    for path in source.opened:
        write_file(root / path, folder.files[path])


def _with_named_image(document: Any, image_name: str | None) -> Any:
    """Return a document in which `main` is not built where task.toml names its image, as Harbor has it."""
    main = document["services"][MAIN_SERVICE] if isinstance(document, dict) and image_name is not None else None
    if isinstance(main, dict) and main.get("image"):
        main.pop("build", None)
    return document


def _without_keep_alive(main: Service) -> Service:
    is_kept = main.entrypoint is None and main.command == KEEP_ALIVE
    return replace(main, command=None) if is_kept else main


async def _image(order: ImageOrder, folder: ComposeFolder, images: ImageSource, seconds: float) -> FoundImage:
    if order.name:
        return await images.named(order.name, timeout_seconds=seconds)
    prefix = f"{order.folder}/" if order.folder else ""
    files = {path[len(prefix) :]: text for path, text in folder.files.items() if path.startswith(prefix)}
    programs = frozenset(path[len(prefix) :] for path in folder.programs if path.startswith(prefix))
    options = BuildOptions(dockerfile=order.dockerfile, arguments=order.arguments, target=order.target)
    return await images.built(files, programs, timeout_seconds=seconds, options=options)
