"""The audit of an image finds each planted leak by name, also one that a later layer deletes."""

import importlib.util
import io
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

from envfarm.images.image_archive import SavedImage, archive_parts
from envfarm.images.image_audit import audit_image, first_leak
from envfarm.images.layer_archive import LayerEntry, giver, write_layer
from envfarm.images.recipe import Recipe, RecipeLayer, layer_path
from envfarm.images.task_layer import task_entries
from envfarm.records.image import BuiltImage, ImageCertificate, ImageLayer
from envfarm.records.task import Environment, TaskPackage


def load_leaks() -> ModuleType:
    path = Path(__file__).parents[1] / "data" / "image_leaks.py"
    spec = importlib.util.spec_from_file_location("data_of_tests_image_leaks", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LEAKS = load_leaks()
ENVIRONMENT = Environment(environment_id="none", interpreter="3.11", lock="", lock_sha256="")
SYSTEM = {
    "etc/os-release": b"ID=debian\n",
    "usr/lib/python3/__pycache__/x.cpython-311.pyc": b"\0" * 20,
    "var/cache/left": b"x",
}
"""What the base has is its own affair, unless it tells the fix."""
PACKAGES = {
    "opt/venv/lib/python3/site-packages/six.py": b"x = 1\n",
    "opt/venv/lib/python3/site-packages/__pycache__/six.cpython-311.pyc": b"\0" * 4 + b"\1\0\0\0" + b"\0" * 8,
    "opt/venv/lib/python3/site-packages/six-1.dist-info/METADATA": b"Name: six\n",
    "opt/venv/lib/python3/site-packages/shares_a_line.py": LEAKS.FIX_LINES.splitlines(keepends=True)[0].encode(),
}
"""Strangers may have a line of code in common with a fix, by chance."""


def audit(
    package: TaskPackage,
    folder: Path,
    *more: list[LayerEntry],
    system: Mapping[str, bytes] = SYSTEM,
    variables: Mapping[str, str] | None = None,
    spoilt: bool = False,
) -> ImageCertificate:
    """Audit an image of a base, packages, a task, and more layers, read from an archive as an engine gives it."""
    named = [("base", LEAKS.entries_of(system)), ("environment", LEAKS.entries_of(PACKAGES))]
    named += [("task", task_entries(package)), *(("more", entries) for entries in more)]
    layers, files = [], {}
    for number, (name, entries) in enumerate(named):
        path = folder / f"{number}.tar"
        with path.open("wb") as file:
            facts = write_layer(entries, file)
        layers.append(RecipeLayer(name=name, diff_id=facts.diff_id, size_bytes=facts.size_bytes))
        files[facts.diff_id] = path
    recipe = Recipe(layers=tuple(layers), variables=variables or {}, workdir="/workspace", machine="x86_64")
    if spoilt:
        write_other = folder / "other.tar"
        with write_other.open("wb") as file:
            write_layer(LEAKS.entries_of({"etc/motd": b"hello"}), file)
        files[layers[0].diff_id] = write_other
    archive = b"".join(archive_parts(recipe, files))
    built = BuiltImage(
        task_id=package.task.task_id,
        task_digest=package.digest,
        image_id=recipe.image_id,
        reference=recipe.tag,
        base="base",
        layers=tuple(ImageLayer(name=layer.name, diff_id=layer.diff_id) for layer in layers),
    )
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        saved = SavedImage(opened, recipe.config, tuple(layer_path(layer.diff_id) for layer in layers))
        certificate = audit_image(package, built, saved)
    assert certificate.image_id == recipe.image_id
    assert certificate.layers == tuple(layer.diff_id for layer in layers)
    return certificate


@pytest.fixture
def leaky(tmp_path: Path) -> object:
    (tmp_path / "repository").mkdir()
    return LEAKS.make_leaky_task(tmp_path / "repository", environment=ENVIRONMENT)


def test_an_image_as_it_is_built_is_clean_and_certified(leaky: LEAKS.LeakyTask, tmp_path: Path) -> None:
    certificate = audit(leaky.package, tmp_path)
    assert first_leak(certificate) is None
    assert set(certificate.checks.values()) == {"clean"}
    assert certificate == audit(leaky.package, tmp_path)


@pytest.mark.parametrize("name", LEAKS.PLANTS)
def test_a_planted_leak_is_found_by_name(name: str, leaky: LEAKS.LeakyTask, tmp_path: Path) -> None:
    plant, check = LEAKS.PLANTS[name]
    certificate = audit(leaky.package, tmp_path, LEAKS.entries_of(plant(leaky)))
    assert certificate.checks[check] != "clean", certificate.checks


@pytest.mark.parametrize("name", LEAKS.PLANTS)
def test_a_leak_that_a_later_layer_deletes_is_found(name: str, leaky: LEAKS.LeakyTask, tmp_path: Path) -> None:
    plant, check = LEAKS.PLANTS[name]
    files = plant(leaky)
    certificate = audit(leaky.package, tmp_path, LEAKS.entries_of(files), LEAKS.deletions_of(files))
    assert "in layer 3" in certificate.checks[check] or check == "git_objects", certificate.checks
    assert certificate.checks[check] != "clean"


def test_what_the_base_holds_of_a_fix_is_found(leaky: LEAKS.LeakyTask, tmp_path: Path) -> None:
    certificate = audit(leaky.package, tmp_path, system={"usr/share/copy": LEAKS.FIXED.encode()})
    assert certificate.checks["fix_contents"] == "usr/share/copy in layer 0 holds tiny.py as the fix has it"


def test_a_variable_that_tells_the_fix_is_found(leaky: LEAKS.LeakyTask, tmp_path: Path) -> None:
    certificate = audit(leaky.package, tmp_path, variables={"COMMIT": leaky.fix})
    assert certificate.checks["configuration"] == f"the commit {leaky.fix[:12]}"


def test_a_layer_with_other_bytes_than_its_name_says_is_found(leaky: LEAKS.LeakyTask, tmp_path: Path) -> None:
    certificate = audit(leaky.package, tmp_path, spoilt=True)
    assert certificate.checks["image"] == "layer 0 is not what the image says"


@pytest.mark.parametrize(
    ("path", "content", "check"),
    [
        ("tiny.egg-info/SOURCES.txt", b"tiny.py\n", "build_folders"),
        ("build/lib/x.py", b"x = 1\n", "build_folders"),
        ("__pycache__/tiny.cpython-311.pyc", b"\0" * 20, "byte_code"),
        (".pytest_cache/README.md", b"x\n", "caches"),
        ("copy_of_the_fix.py", LEAKS.FIXED.encode(), "fix_contents"),
    ],
)
def test_a_leak_that_the_task_itself_brings_is_found(path: str, content: bytes, check: str, tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    leaky = LEAKS.make_leaky_task(tmp_path / "repository", environment=ENVIRONMENT, generated={path: content})
    certificate = audit(leaky.package, tmp_path)
    assert certificate.checks[check].startswith(f"workspace/{path} in layer 2"), certificate.checks


def test_a_link_to_the_interpreter_is_no_leak(leaky: LEAKS.LeakyTask, tmp_path: Path) -> None:
    link = LayerEntry(path="home/me/python/3.11", link_target="/opt/python")
    assert first_leak(audit(leaky.package, tmp_path, [link])) is None
    other = LayerEntry(path="home/me/notes", mode=0o644, read=giver(b"x"))
    assert audit(leaky.package, tmp_path, [other]).checks["caches"] != "clean"
