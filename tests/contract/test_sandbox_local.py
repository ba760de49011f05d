"""The local jail keeps the sandbox contract."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from envfarm.records.image import Folder, Image
from envfarm.sandbox.conformance import CHECKS, ConformanceMaterial
from envfarm.sandbox.local.provider import open_local_provider


def make_image(folders: tuple[Folder, ...]) -> Image:
    interpreter = Path(sys.base_prefix)
    shown = () if interpreter.is_relative_to("/usr") else (Folder(source=str(interpreter), target=str(interpreter)),)
    path = f"{interpreter}/bin:/usr/local/bin:/usr/bin:/bin"
    return Image(image_id="conformance", folders=(*shown, *folders), environment_variables={"PATH": path})


@asynccontextmanager
async def open_material(folder: Path) -> AsyncIterator[ConformanceMaterial]:
    async with open_local_provider({}) as provider:
        yield ConformanceMaterial(provider=provider, make_image=make_image, folder=folder)


@pytest.mark.parametrize("name", CHECKS)
def test_the_local_jail_keeps_the_contract(name: str, tmp_path: Path) -> None:
    async def check() -> None:
        async with open_material(tmp_path) as material:
            await CHECKS[name](material)

    anyio.run(check)
