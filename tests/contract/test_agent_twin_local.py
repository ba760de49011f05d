"""The local jail keeps the sandbox contract with the Python twin as its agent, too."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from envfarm.records.image import Folder, Image
from envfarm.sandbox.agent.programs import TWIN
from envfarm.sandbox.conformance import CHECKS, ConformanceMaterial
from envfarm.sandbox.local import provider as local
from envfarm.sandbox.local.host_facts import HostFacts, read_host_facts

PYTHON = os.path.realpath(sys.executable)
PREFIX = sys.base_prefix
TWIN_INSIDE = "/.envfarm/twin"


def facts_with_twin(folder: Path) -> HostFacts:
    facts = read_host_facts(folder)
    shown = () if PREFIX.startswith("/usr/") else ((PREFIX, PREFIX),)
    return replace(
        facts,
        system=(*facts.system, *shown, (str(TWIN), TWIN_INSIDE)),
        agent_words=(PYTHON, "-I", "-S", TWIN_INSIDE),
    )


def make_image(folders: tuple[Folder, ...]) -> Image:
    path = f"{PREFIX}/bin:/usr/local/bin:/usr/bin:/bin"
    return Image(image_id="conformance", folders=folders, environment_variables={"PATH": path})


@pytest.mark.parametrize("name", CHECKS)
def test_a_jail_whose_agent_is_the_twin_keeps_the_contract(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "read_host_facts", facts_with_twin)

    async def check() -> None:
        async with local.open_local_provider({}) as provider:
            material = ConformanceMaterial(provider=provider, make_image=make_image, folder=tmp_path)
            async with material.lease() as sandbox:
                assert sandbox.client.facts.implementation == "python"  # type: ignore[attr-defined] -- of the agent's client
            with anyio.fail_after(120):
                await CHECKS[name](material)

    anyio.run(check)
