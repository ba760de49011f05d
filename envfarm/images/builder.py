"""build_task_image(): a task becomes an image of a container engine, the same bit for bit whenever it is made.

The archive is written here and loaded, with no build step of the engine (docs/decisions/0023). Layers that the engine
has are not sent again. Whatever is killed on the way leaves whole layers or none, and the next build goes on from them.
"""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from envfarm.errors import Attribution, BoundaryError, ContainerImageMissingError, ImageBuildError
from envfarm.images.built_images import BuiltImages
from envfarm.images.disk_budget import remember
from envfarm.images.environment_store import EnvironmentStore
from envfarm.images.image_archive import archive_parts, open_saved_image
from envfarm.images.interpreters import Interpreter, interpreter_at
from envfarm.images.layer_archive import LayerEntry, write_layer
from envfarm.images.layer_store import LayerStore, StoredLayer
from envfarm.images.python_layers import environment_entries, environment_key, interpreter_entries, interpreter_key
from envfarm.images.recipe import Recipe, RecipeLayer, count_known_layers
from envfarm.images.task_layer import task_entries
from envfarm.images.unfinished import unfinished_folder
from envfarm.records.image import BuiltImage, ImageLayer
from envfarm.records.task import TaskPackage
from envfarm.sandbox.box_variables import base_variables
from envfarm.sandbox.contract import ENVIRONMENT, WORKSPACE, SandboxProvider
from envfarm.sandbox.docker.engine import Engine

_Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ImageWorks:
    """What images are built with.

    Attributes:
        engine: Takes them.
        base: Reference of the image that all of them stand on.
        provider: Leases the box that installs an environment, where the cache has it not yet.
        cache_folder: envfarm's cache on this machine.
        report: Is told in one line what takes long.
    """

    engine: Engine
    base: str
    provider: SandboxProvider
    cache_folder: Path
    report: _Report


@dataclass(frozen=True, kw_only=True)
class MadeImage:
    """An image whose layers lie on this machine.

    Attributes:
        recipe: The image.
        files: Archives of its layers but for the base's, by digest, first to last.
    """

    recipe: Recipe
    files: dict[str, Path]


async def build_task_image(package: TaskPackage, works: ImageWorks) -> BuiltImage:
    """Return the task's image, which the engine has then; one that it has already is not made again.

    Raises:
        TaskError: The task's workspace is damaged.
        ImageBuildError: The environment cannot be installed, or a layer not be made.
        MissingToolError: The interpreter is not here and cannot be brought.
        EngineDiskFullError: The engine's disk is full.
        EngineUnreachableError: The engine does not answer.
    """
    known = await anyio.to_thread.run_sync(find_built, package, works.engine, works.base, works.cache_folder)
    if known is not None:
        return known
    environment = await ensure_environment(package, works)

    def make() -> BuiltImage:
        with made_image(package, works, environment) as made:
            send(made, works)
            built = _record_of(package, made.recipe, works)
        remember(built, works.engine, works.cache_folder)
        return built

    return await anyio.to_thread.run_sync(make)


def find_built(package: TaskPackage, engine: Engine, base: str | None, cache_folder: Path) -> BuiltImage | None:
    """Return what was built of a task on a base, or on any, if the engine still has it; counts as use."""
    built = BuiltImages(cache_folder).find(package.digest)
    if built is None or base not in (None, built.base):
        return None
    try:
        facts = engine.image_facts(built.reference)
        below = engine.image_facts(built.base).layers
    except BoundaryError:
        return None
    layers = tuple(layer.diff_id for layer in built.layers)
    return built if facts.layers == layers and layers[: len(below)] == below else None


async def ensure_environment(package: TaskPackage, works: ImageWorks) -> Path:
    """Return the folder of the task's environment, installed where it was not."""
    store = EnvironmentStore(works.cache_folder, works.provider)
    environment = package.task.environment
    if not store.path_of(environment).is_dir():
        works.report(f"installing the environment {environment.environment_id}")
    await store.ensure(environment)
    return store.path_of(environment)


@contextmanager
def made_image(package: TaskPackage, works: ImageWorks, environment: Path) -> Iterator[MadeImage]:
    """Make all layers of a task's image; that of the task, and what holds the others, is gone after the block."""
    interpreter = interpreter_at(environment / "bin" / "python")
    if interpreter is None:
        message = f"the interpreter of {environment.name} is gone from this machine"
        raise ImageBuildError(message, attribution=Attribution.FARM)
    with unfinished_folder(works.cache_folder / "layers") as folder:
        shared = [("environment", _environment_layer(environment, interpreter, works, folder))]
        if interpreter.folders():
            shared.insert(0, ("interpreter", _interpreter_layer(interpreter, works, folder)))
        else:
            require_in_base(interpreter, works)
        layers = [RecipeLayer(name="base", diff_id=diff_id) for diff_id in works.engine.image_facts(works.base).layers]
        layers += [
            RecipeLayer(name=name, diff_id=layer.facts.diff_id, size_bytes=layer.facts.size_bytes)
            for name, layer in shared
        ]
        files = {layer.facts.diff_id: layer.path for _, layer in shared}
        path = folder / "task.tar"
        try:
            with path.open("wb") as file:
                facts = write_layer(task_entries(package), file)
        except OSError as error:
            message = f"the task's layer cannot be written: {error}"
            raise ImageBuildError(message, attribution=Attribution.FARM) from error
        layers.append(RecipeLayer(name="task", diff_id=facts.diff_id, size_bytes=facts.size_bytes))
        recipe = Recipe(
            layers=tuple(layers),
            variables=_variables(package, works),
            workdir=str(WORKSPACE),
            machine=platform.machine(),
        )
        yield MadeImage(recipe=recipe, files={**files, facts.diff_id: path})


def _interpreter_layer(interpreter: Interpreter, works: ImageWorks, holder: Path) -> StoredLayer:
    def entries() -> list[LayerEntry]:
        works.report(f"making the layer of Python {interpreter.full}, once")
        return interpreter_entries(interpreter)

    return LayerStore(works.cache_folder).ensure(interpreter_key(interpreter), entries, holder)


def _environment_layer(environment: Path, interpreter: Interpreter, works: ImageWorks, holder: Path) -> StoredLayer:
    def entries() -> list[LayerEntry]:
        works.report(f"making the layer of {environment.name}, once for all commits with its lock")
        return environment_entries(environment, interpreter)

    return LayerStore(works.cache_folder).ensure(environment_key(environment, interpreter), entries, holder)


def require_in_base(interpreter: Interpreter, works: ImageWorks) -> None:
    """The system's own interpreter is no layer: the base holds one at the same place.

    Raises:
        ImageBuildError: It does not.
    """
    wanted = interpreter.executable.lstrip("/")
    with open_saved_image(works.engine, works.base, works.cache_folder) as saved:
        for layer in range(len(saved.diff_ids)):
            if any(file.path == wanted for file in saved.files(layer)):
                return
    message = (
        f"the environment is made with this system's own {interpreter.executable}, which the base {works.base} has "
        f"not: install Python {interpreter.minor} with pyenv or uv, and remove the environment from the cache"
    )
    raise ImageBuildError(message, attribution=Attribution.FARM, retryable=False)


def _variables(package: TaskPackage, works: ImageWorks) -> dict[str, str]:
    own = {"VIRTUAL_ENV": str(ENVIRONMENT), **package.task.environment.environment_variables}
    return {**works.engine.image_facts(works.base).variables, **base_variables(own)}


def send(made: MadeImage, works: ImageWorks) -> None:
    """Have the engine take an image; only the layers that it lacks are sent, where it agrees to that.

    Raises:
        ImageBuildError: The engine refuses the image.
    """
    diff_ids = [layer.diff_id for layer in made.recipe.layers]
    held = [works.engine.image_facts(works.base).layers, _nearest_layers(diff_ids, works)]
    lacking = set(diff_ids[count_known_layers(diff_ids, held) :])
    files = {diff_id: path for diff_id, path in made.files.items() if diff_id in lacking}
    try:
        works.engine.load_image(archive_parts(made.recipe, files))
    except ImageBuildError:
        send_all(made, works)


def _nearest_layers(diff_ids: list[str], works: ImageWorks) -> tuple[str, ...]:
    """Return the layers of that image in the engine which has most of these from the bottom on."""

    def count_shared(built: BuiltImage) -> int:
        return count_known_layers(diff_ids, [[layer.diff_id for layer in built.layers]])

    records = [known.built for known in BuiltImages(works.cache_folder).all()]
    for built in sorted(records, key=count_shared, reverse=True):
        with suppress(ContainerImageMissingError):
            return works.engine.image_facts(built.reference).layers
    return ()


def send_all(made: MadeImage, works: ImageWorks) -> None:
    """Have the engine take an image with all its layers, the base's too: some engines want them all."""
    with (
        open_saved_image(works.engine, works.base, works.cache_folder) as saved,
        unfinished_folder(works.cache_folder / "layers") as folder,
    ):
        below: dict[str, Path] = {}
        for layer, diff_id in enumerate(saved.diff_ids):
            below[diff_id] = folder / f"{layer}.tar"
            saved.copy_layer(layer, below[diff_id])
        works.engine.load_image(archive_parts(made.recipe, {**below, **made.files}))


def _record_of(package: TaskPackage, recipe: Recipe, works: ImageWorks) -> BuiltImage:
    facts = works.engine.image_facts(recipe.tag)
    expected = tuple(layer.diff_id for layer in recipe.layers)
    if facts.layers != expected:
        message = f"the engine made other layers of {recipe.tag} than it was given"
        raise ImageBuildError(message, attribution=Attribution.FARM, retryable=False)
    return BuiltImage(
        task_id=package.task.task_id,
        task_digest=package.digest,
        image_id=recipe.image_id,
        reference=recipe.tag,
        base=works.base,
        layers=tuple(
            ImageLayer(name=layer.name, diff_id=layer.diff_id, size_bytes=layer.size_bytes) for layer in recipe.layers
        ),
        variables=dict(recipe.variables),
    )
