"""Images of tasks on a real Docker daemon: the same bit for bit, a few megabytes each, graded, pruned, audited."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest

from envfarm.errors import ImageBuildError
from envfarm.foreign.engine_images import EngineImages
from envfarm.formats.harbor import read_package, write_package
from envfarm.images import disk_budget
from envfarm.images.builder import (
    ImageWorks,
    build_task_image,
    ensure_environment,
    made_image,
    require_in_base,
    send,
    send_all,
)
from envfarm.images.disk_budget import keep_within
from envfarm.images.foreign_images import foreign_images
from envfarm.images.image_archive import archive_parts
from envfarm.images.interpreters import Interpreter
from envfarm.images.leased_image import find_image
from envfarm.records.task import FIX_PATCH, REFERENCE_ARCHIVE, WORKSPACE_ARCHIVE, Environment, ValidationRecord
from envfarm.sandbox.docker.engine import Engine, open_engine
from envfarm.sandbox.docker.provider import open_docker_provider
from envfarm.sandbox.local.provider import open_local_provider
from task_miner.packaging.package import PackageParts, build_package

if TYPE_CHECKING:
    from tests.data.package_index import PackageIndex
    from tests.data.tiny.task import TinyTask


class Envfarm:
    """Runs `envfarm` with a cache of its own."""

    def __init__(self, cache: Path, environ: Mapping[str, str]) -> None:
        self.cache = cache
        self.environ = {name: value for name, value in environ.items() if not name.startswith("ENVFARM_")}

    def __call__(self, *words: object, code: int = 0) -> str:
        command = [sys.executable, "-c", "from envfarm.cli.main import main; main()", *map(str, words)]
        variables = self.environ | {"ENVFARM_CACHE_FOLDER": str(self.cache)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code in {0, 1} else done.stderr

    def json(self, *words: object, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code))


def remade(task: Path, name: str, *, environment: Environment | None = None) -> Path:
    """Return the folder of a task like a given one but for its environment and a file of its installed project."""
    package = read_package(task)
    changed = msgspec.structs.replace(package.task, environment=environment or package.task.environment)
    parts = PackageParts(
        task=changed,
        validation=ValidationRecord(runs=(), classes={}),
        workspace_archive=package.files[WORKSPACE_ARCHIVE],
        reference_archive=package.files[REFERENCE_ARCHIVE],
        test_patch=b"",
        fix_patch=package.files[FIX_PATCH],
        project_files={"tiny.pth": b"/workspace/src\n", f"{name}.txt": b""},
    )
    folder = task.parent / name
    write_package(build_package(parts), folder)
    return folder


@pytest.fixture(scope="module")
def layers(
    tiny_task: "TinyTask",
    package_index: "PackageIndex",
    docker_base: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """Layers of interpreter and environment, made once; an image holds them in the engine while these tests run."""
    folder = tmp_path_factory.mktemp("layers")
    tiny_task.write(folder / "tasks" / "tiny", folder / "cache")
    envfarm = Envfarm(folder / "cache", package_index.environment())
    envfarm("images", "build", remade(folder / "tasks" / "tiny", "first"))
    yield folder / "cache" / "layers"
    envfarm("images", "prune", "--budget", "0")


@pytest.fixture
def place(tiny_task: "TinyTask", package_index: "PackageIndex", layers: Path, tmp_path: Path) -> Iterator[Envfarm]:
    """A cache with the environment and the layers of the tiny task, which lies in ``tasks/tiny`` beside it."""
    tiny_task.write(tmp_path / "tasks" / "tiny", tmp_path / "cache")
    shutil.copytree(layers, tmp_path / "cache" / "layers")
    envfarm = Envfarm(tmp_path / "cache", package_index.environment())
    yield envfarm
    envfarm("images", "prune", "--budget", "0")


@pytest.fixture
def task(place: Envfarm) -> Path:
    return place.cache.parent / "tasks" / "tiny"


def with_works(cache: Path, base: str, call: Callable[[ImageWorks], Any]) -> Any:
    async def run() -> Any:
        with open_engine() as engine:
            async with open_local_provider({}) as provider:
                works = ImageWorks(engine=engine, base=base, provider=provider, cache_folder=cache, report=print)
                return await call(works)

    return anyio.run(run)


def test_an_image_built_in_another_folder_is_the_same_and_names_no_time(
    place: Envfarm, task: Path, tiny_task: "TinyTask", tmp_path: Path
) -> None:
    first = place.json("images", "build", task)
    other = Envfarm(tmp_path / "other", place.environ)
    shutil.copytree(tiny_task.folder / "venv", tmp_path / "other" / "environments" / "tiny", symlinks=True)
    shutil.copytree(task, tmp_path / "elsewhere")
    second = other.json("images", "build", tmp_path / "elsewhere")
    assert second["image_id"] == first["image_id"]
    assert [layer["name"] for layer in first["layers"]][-3:] == ["interpreter", "environment", "task"]
    with open_engine() as engine:
        facts = engine.image_facts(first["image_id"])
    assert facts.image_id == first["image_id"]
    assert facts.created == "2024-01-01T00:00:00Z"
    assert facts.layers == tuple(layer["diff_id"] for layer in first["layers"])
    assert str(tmp_path) not in str(facts)


def test_a_built_image_grades_as_folders_do(place: Envfarm, task: Path) -> None:
    built = place.json("images", "build", task)
    right = place.json("grade", task, "--sandbox", "docker", "--oracle")
    assert (right["outcome"], right["reward"]) == ("scored", 1.0)
    assert right["provenance"]["image_id"] == built["image_id"]
    wrong = place.json("grade", task, "--sandbox", "docker", "--no-op")
    assert (wrong["outcome"], wrong["reward"]) == ("scored", 0.0)


def locked_task(task: Path, index: "PackageIndex") -> Path:
    """Return the folder of the task with an environment that is installed from its lock."""
    lines = []
    for name, files in sorted(index.files.items()):
        for file in files:
            version = str(file["filename"]).split("-")[1]
            lines.append(f"{name}=={version} \\\n    --hash=sha256:{file['hashes']['sha256']}\n")  # type: ignore[index]
    environment = msgspec.structs.replace(
        read_package(task).task.environment, environment_id="locked", lock="".join(lines)
    )
    return remade(task, "locked", environment=environment)


def test_a_driver_of_another_user_is_told_that_the_image_is_not_taken(place: Envfarm, task: Path) -> None:
    lines: list[str] = []
    package = read_package(task)

    async def find(uid: int) -> str | None:
        async with open_docker_provider({}) as provider:
            found = await find_image(package, provider, place.cache, report=lines.append, driver_uid=uid)
            return None if found is None else found.image_id

    assert (anyio.run(find, 1234), lines) == (None, [])
    built = place.json("images", "build", task)
    assert anyio.run(find, 1234) is None
    assert ["user 1234" in line for line in lines] == [True]
    assert [anyio.run(find, uid) for uid in (0, 1000)] == [built["image_id"]] * 2
    assert len(lines) == 1


def test_building_again_from_the_lock_up_gives_the_same_image(
    place: Envfarm, task: Path, package_index: "PackageIndex"
) -> None:
    folder = locked_task(task, package_index)
    built = place.json("images", "build", folder)
    found = place.json("images", "verify", folder)
    assert found["same"] is True, found
    assert found["image_id"] == found["rebuilt_id"] == found["saved_id"] == built["image_id"]


def test_an_image_is_the_same_under_another_umask_locale_zone_and_folder(
    place: Envfarm, task: Path, package_index: "PackageIndex", monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = locked_task(task, package_index)
    built = place.json("images", "build", folder)
    other = {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "LANG": "tr_TR.UTF-8", "PYTHONHASHSEED": "7", "HOME": str(tmp_path)}
    place.environ |= other
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o077)
    try:
        found = place.json("images", "verify", folder)
    finally:
        os.umask(before)
    assert found["same"] is True, found
    assert found["rebuilt_id"] == built["image_id"]


def test_an_environment_that_is_not_as_its_lock_says_is_found_by_building_again(place: Envfarm, task: Path) -> None:
    place("images", "build", task)  # its environment was put there, and its lock is empty
    found = place.json("images", "verify", task, code=1)
    assert found["same"] is False
    assert any(line.startswith("environment: opt/venv/") for line in found["differing"]), found


def test_an_image_that_is_there_is_not_built_again_and_one_that_is_gone_is(place: Envfarm, task: Path) -> None:
    built = place.json("images", "build", task)
    shutil.rmtree(place.cache / "layers")
    assert place.json("images", "build", task) == built
    assert not (place.cache / "layers").exists() or not list((place.cache / "layers").glob("*.tar"))
    with open_engine() as engine:
        engine.remove_image(built["reference"])
    assert place.json("images", "build", task) == built


def test_layers_that_the_engine_has_are_not_sent_and_all_are_where_it_wants_all(
    place: Envfarm, task: Path, docker_base: str
) -> None:
    package = read_package(task)

    async def check(works: ImageWorks) -> None:
        built = await build_task_image(package, works)
        engine = works.engine
        with made_image(package, works, works.cache_folder / "environments" / "tiny") as made:
            only_head = sum(len(part) for part in archive_parts(made.recipe, {}))
            assert only_head < 100_000
            assert engine.load_image(archive_parts(made.recipe, {})) in {built.image_id, ""}
            engine.remove_image(built.reference)
            send_all(made, works)
            assert engine.image_facts(built.reference).image_id == built.image_id
            engine.remove_image(built.reference)
            send(made, works)
            assert engine.image_facts(built.reference).image_id == built.image_id

    with_works(place.cache, docker_base, check)


def test_what_was_not_used_longest_goes_when_room_is_short(
    place: Envfarm, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_budget, "foreign_images", lambda _: [])  # those of this machine are no part of the sum
    folders = [task, remade(task, "second"), remade(task, "third")]
    built = [place.json("images", "build", folder) for folder in folders]
    assert len({image["image_id"] for image in built}) == 3
    place("grade", folders[0], "--sandbox", "docker", "--no-op")  # counts as use
    listed = place.json("images", "ls")
    assert listed["images"][0]["image_id"] == built[0]["image_id"]
    layers = {layer["diff_id"]: layer["size_bytes"] for image in built[::2] for layer in image["layers"]}
    stored = sum(path.stat().st_size for path in (place.cache / "layers").glob("*.tar"))
    with open_engine() as engine:
        done = keep_within(sum(layers.values()) + stored, engine, place.cache)
        assert [image.built.image_id for image in done.images] == [built[1]["image_id"]]
        references = [image["reference"] for image in built]
        tags = {tag for image in engine.list_images("envfarm.image") for tag in engine.image_facts(image).tags}
    assert [reference in tags for reference in references] == [True, False, True]
    assert done.bytes_after <= sum(layers.values()) + stored < done.bytes_before


def test_a_build_keeps_to_its_budget_and_keeps_what_it_just_built(place: Envfarm, task: Path) -> None:
    first = place.json("images", "build", task, "--budget", 0)
    second = place.json("images", "build", remade(task, "second"), "--budget", 0)
    assert [image["image_id"] for image in place.json("images", "ls")["images"]] == [second["image_id"]]
    assert first["image_id"] != second["image_id"]
    assert list((place.cache / "layers").glob("*.tar")) == []


def test_an_image_that_a_container_uses_stays(place: Envfarm, task: Path) -> None:
    built = place.json("images", "build", task)
    with open_engine() as engine:
        container = engine.create_container({"Image": built["reference"], "Cmd": ["/bin/true"]})
        try:
            lines: list[str] = []
            keep_within(0, engine, place.cache, report=lines.append)
            assert "stays for now" in lines[0]
            assert engine.image_facts(built["image_id"]).tags == (built["reference"],)
        finally:
            engine.remove_container(container)


def test_making_room_takes_no_layer_from_a_build_under_way(place: Envfarm, task: Path, docker_base: str) -> None:
    package = read_package(task)

    async def build(works: ImageWorks) -> str:
        environment = await ensure_environment(package, works)
        with made_image(package, works, environment) as made:
            place("images", "prune", "--budget", "0")
            assert list((place.cache / "layers").glob("*.tar")) == []
            send_all(made, works)
            return works.engine.image_facts(made.recipe.tag).image_id

    assert with_works(place.cache, docker_base, build) == place.json("images", "build", task)["image_id"]


def test_images_of_other_makers_are_listed_and_pruned_by_their_last_use(
    place: Envfarm, task: Path, docker_base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place("images", "build", task)
    found = {}

    async def use(engine: Engine, name: str) -> None:
        files = {"Dockerfile": f"FROM {docker_base}\nRUN echo {name} && head -c 3000000 /dev/urandom > /x\n".encode()}
        found[name] = await EngineImages(engine).built(files, frozenset(), timeout_seconds=60)

    with open_engine() as engine:
        for name in ("one", "two", "one"):  # the first one is used last
            anyio.run(use, engine, f"{name} {os.getpid()}")
            time.sleep(0.1)
        one, two = (image.image.reference for image in found.values())
        listed = place.json("images", "ls")["foreign_images"]
        mine = [item for item in listed if item["reference"] in {one, two}]
        assert [item["reference"] for item in mine] == [one, two]
        assert all(3_000_000 <= item["bytes"] < 3_100_000 for item in mine), mine
        total = place.json("images", "ls")["total_bytes"]
        place("images", "prune", "--budget", "0")
        assert {tag for image in engine.list_images("envfarm.foreign") for tag in engine.image_facts(image).tags} >= {
            one,
            two,
        }
        monkeypatch.setattr(disk_budget, "_RECENT_SECONDS", -60.0)
        later = {image.built.image_id for image in foreign_images(engine) if image.built.reference != two}
        place("images", "build", task)
        keep_within(total - 1_000_000, engine, place.cache, kept_ids=frozenset(later))
        tags = {tag for image in engine.list_images("envfarm.foreign") for tag in engine.image_facts(image).tags}
        assert (one in tags, two in tags) == (True, False)
        engine.remove_image(one)


def test_a_build_that_is_killed_leaves_nothing_half_made_and_goes_on(place: Envfarm, task: Path) -> None:
    shutil.rmtree(place.cache / "layers")
    command = [sys.executable, "-c", "from envfarm.cli.main import main; main()", "images", "build", str(task)]
    variables = place.environ | {"ENVFARM_CACHE_FOLDER": str(place.cache)}
    killed = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert killed.stderr is not None
    while "making the layer" not in killed.stderr.readline():
        assert killed.poll() is None
    killed.kill()
    killed.wait()
    killed.stderr.close()
    assert place.json("images", "ls")["images"] == []
    built = place.json("images", "build", task)
    assert built["layers"]
    assert not list(place.cache.glob("*/.partial-*"))


def test_mistakes_are_one_line(place: Envfarm, task: Path, tmp_path: Path) -> None:
    assert place("images", "verify", task, code=2).splitlines() == [
        "envfarm: tiny-0001 has no image on envfarm-base:bookworm-2 here: envfarm images build it first"
    ]
    assert "name a task folder" in place("images", "build", tmp_path / "nothing", code=2)


def test_a_system_interpreter_is_taken_from_the_base_or_missed_there(place: Envfarm, docker_base: str) -> None:
    system = Interpreter(minor="3.2", full="3.2.1", executable="/usr/bin/python3.2", prefix="/usr")

    async def check(works: ImageWorks) -> None:
        with pytest.raises(ImageBuildError, match=r"python3\.2, which the base .* has not: install Python 3\.2"):
            require_in_base(system, works)
        require_in_base(replace(system, executable="/usr/bin/git"), works)

    with_works(place.cache, docker_base, check)
