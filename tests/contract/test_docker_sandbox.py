"""Containers of a Docker daemon keep the sandbox contract."""

from pathlib import Path

import anyio
import pytest

from envfarm.records.image import Folder, Image
from envfarm.sandbox.conformance import CHECKS, ConformanceMaterial
from envfarm.sandbox.docker.provider import open_docker_provider


def make_image(folders: tuple[Folder, ...]) -> Image:
    return Image(image_id="conformance", folders=folders)


@pytest.mark.parametrize("name", CHECKS)
def test_a_container_keeps_the_contract(name: str, docker_base: str, tmp_path: Path) -> None:
    async def check() -> None:
        async with open_docker_provider({}) as provider:
            material = ConformanceMaterial(
                provider=provider, make_image=make_image, folder=tmp_path, shares_one_disk=False
            )
            with anyio.fail_after(120):
                await CHECKS[name](material)

    anyio.run(check)
