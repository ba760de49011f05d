"""A container with an allowlist reaches what was named and nothing else."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import anyio
import pytest

from envfarm.errors import SandboxStartError
from envfarm.records.image import Image
from envfarm.sandbox.allowlist.way_out import prove_sealed
from envfarm.sandbox.contract import LeaseRequest, Network
from envfarm.sandbox.docker.container import AGENT
from envfarm.sandbox.docker.provider import open_docker_provider

IMAGE = Image(image_id="x")


def test_a_container_reaches_what_is_on_its_allowlist_and_nothing_else(
    docker_base: str, allowlist_checks: ModuleType
) -> None:
    async def check() -> None:
        with allowlist_checks.serve() as server:
            async with open_docker_provider({"pins": {"mirror.test": "127.0.0.1"}}) as provider:
                await allowlist_checks.check_allowlist(provider, server, IMAGE)

    anyio.run(check)


def test_the_probe_tells_a_box_with_a_network_from_one_without(docker_base: str, tmp_path: Path) -> None:
    async def check() -> None:
        request = LeaseRequest(image=IMAGE)
        async with open_docker_provider({}) as provider:
            async with provider.lease(request) as closed:
                await prove_sealed(closed.client, AGENT)  # type: ignore[attr-defined] -- the agent's client
            async with provider.lease(replace(request, network=Network.PUBLIC)) as open_one:
                with pytest.raises(SandboxStartError, match=r"not closed: .*1\.1\.1\.1"):
                    await prove_sealed(open_one.client, AGENT)  # type: ignore[attr-defined] -- as above

    anyio.run(check)
