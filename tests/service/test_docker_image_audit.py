"""`envfarm images audit` on images of a real Docker daemon: clean ones are certified, deleted leaks are found."""

import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from envfarm.formats.harbor import read_package, write_package
from envfarm.images.builder import ImageWorks, build_task_image
from envfarm.images.built_images import BuiltImages
from envfarm.images.image_archive import archive_parts
from envfarm.images.layer_archive import LayerEntry, write_layer
from envfarm.images.recipe import Recipe, RecipeLayer
from envfarm.records.image import BuiltImage, ImageLayer
from envfarm.sandbox.docker.engine import Engine, open_engine
from envfarm.sandbox.local.provider import open_local_provider

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask


def load_leaks() -> ModuleType:
    path = Path(__file__).parents[1] / "data" / "image_leaks.py"
    spec = importlib.util.spec_from_file_location("data_of_tests_image_leaks", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LEAKS = load_leaks()
PLANTED = (
    "hidden tests elsewhere",  # first: a bundle after it names the fix's commit as well
    "a pack with the fix",
    "a log of git",
    "a bundle elsewhere",
    "a tracked file as the fix has it",
    "the cache of the test runner",
    "byte code with a time",
    "a build folder",
    "a release of the project",
)


class Place:
    """A cache, a task's folder, and the image that was built of it."""

    def __init__(self, folder: Path, leaky: Any, built: BuiltImage, base: str) -> None:
        self.cache = folder / "cache"
        self.task = folder / "tasks" / "leaky"
        self.leaky, self.built, self.base = leaky, built, base

    def audit(self, code: int) -> Any:
        program = "from envfarm.cli.main import main; main()"
        command = [sys.executable, "-c", program, "images", "audit", str(self.task), "--json"]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("ENVFARM_")}
        variables |= {"ENVFARM_CACHE_FOLDER": str(self.cache)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def place(tiny_task: "TinyTask", docker_base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("audit")
    (folder / "repository").mkdir()
    tiny_task.write(folder / "tasks" / "tiny", folder / "cache")
    leaky = LEAKS.make_leaky_task(folder / "repository", environment=tiny_task.package.task.environment)
    write_package(leaky.package, folder / "tasks" / "leaky")
    package = read_package(folder / "tasks" / "leaky")

    async def build() -> BuiltImage:
        with open_engine() as engine:
            async with open_local_provider({}) as provider:
                works = ImageWorks(
                    engine=engine,
                    base=docker_base,
                    provider=provider,
                    cache_folder=folder / "cache",
                    report=lambda _: None,
                )
                return await build_task_image(package, works)

    built = anyio.run(build)
    yield Place(folder, leaky, built, docker_base)
    with open_engine() as engine:
        engine.remove_image(built.reference)


def test_the_image_of_a_clean_task_is_certified_by_its_id(place: Place) -> None:
    certificate = place.audit(0)
    assert certificate["image_id"] == place.built.image_id
    assert set(certificate["checks"].values()) == {"clean"}
    kept = BuiltImages(place.cache).certificate_of(place.built)
    assert kept is not None
    assert kept.sha256 == certificate["sha256"]


def test_leaks_that_a_later_layer_deletes_are_read_out_of_the_engine(place: Place, tmp_path: Path) -> None:
    every = [LEAKS.PLANTS[name] for name in PLANTED]
    planted = [plant(place.leaky) for plant, _ in every]
    gone = [entry for files in planted for entry in LEAKS.deletions_of(files)]
    with open_engine() as engine:
        built = layered(engine, place, [*(LEAKS.entries_of(files) for files in planted), gone], tmp_path)
        try:
            certificate = place.audit(1)
        finally:
            BuiltImages(place.cache).add(place.built)
            engine.remove_image(built.reference)
    assert certificate["image_id"] == built.image_id
    first = len(place.built.layers)
    for number, (files, (_, check)) in enumerate(zip(planted, every, strict=True), start=first):
        found = certificate["checks"][check]
        named = f"in layer {number}" in found and any(path.removeprefix("workspace/") in found for path in files)
        assert named or check == "git_objects", (check, found, sorted(files), number)
        assert found != "clean"


def layered(engine: Engine, place: Place, more: list[list[LayerEntry]], folder: Path) -> BuiltImage:
    """Have the engine take the built image with more layers on top, and take it for the task's image."""
    layers = [RecipeLayer(name=layer.name, diff_id=layer.diff_id) for layer in place.built.layers]
    files = {}
    for number, entries in enumerate(more):
        path = folder / f"{number}.tar"
        with path.open("wb") as file:
            facts = write_layer(entries, file)
        layers.append(RecipeLayer(name="more", diff_id=facts.diff_id, size_bytes=facts.size_bytes))
        files[facts.diff_id] = path
    recipe = Recipe(
        layers=tuple(layers), variables=place.built.variables, workdir="/workspace", machine=platform.machine()
    )
    engine.load_image(archive_parts(recipe, files))
    built = BuiltImage(
        task_id=place.built.task_id,
        task_digest=place.built.task_digest,
        image_id=recipe.image_id,
        reference=recipe.tag,
        base=place.base,
        layers=tuple(ImageLayer(name=layer.name, diff_id=layer.diff_id) for layer in layers),
    )
    BuiltImages(place.cache).add(built)
    return built
