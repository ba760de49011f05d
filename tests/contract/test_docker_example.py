"""The example of docs/writing-a-provider.md keeps the sandbox contract, in as few lines as the page says."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import anyio
import pytest

from envfarm.records.image import Folder, Image
from envfarm.sandbox.conformance import CHECKS, ConformanceMaterial

EXAMPLE = Path(__file__).parents[2] / "examples" / "provider.py"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the example gives folders to another user: run as root")


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_provider", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_is_as_short_as_the_page_says() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 60


def make_image(folders: tuple[Folder, ...]) -> Image:
    return Image(image_id="conformance", folders=folders)


@pytest.mark.parametrize("name", CHECKS)
def test_the_example_keeps_the_contract(name: str, example: ModuleType, docker_base: str, tmp_path: Path) -> None:
    async def check() -> None:
        async with example.open_example_provider({}) as provider:
            assert docker_base == example.IMAGE
            material = ConformanceMaterial(
                provider=provider, make_image=make_image, folder=tmp_path, shares_one_disk=provider.shares_one_disk
            )
            with anyio.fail_after(120):
                await CHECKS[name](material)

    anyio.run(check)
