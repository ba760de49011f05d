"""A local jail with an allowlist reaches what was named and nothing else."""

import sys
from pathlib import Path
from types import ModuleType

import anyio
import pytest

from envfarm.errors import SandboxStartError, SettingsError
from envfarm.records.image import Folder, Image
from envfarm.sandbox.allowlist.way_out import prove_sealed
from envfarm.sandbox.contract import LeaseRequest, Network
from envfarm.sandbox.local.host_facts import AGENT
from envfarm.sandbox.local.provider import open_local_provider

PREFIX = Path(sys.base_prefix)
FOLDERS = () if PREFIX.is_relative_to("/usr") else (Folder(source=str(PREFIX), target=str(PREFIX)),)
IMAGE = Image(image_id="x", folders=FOLDERS, environment_variables={"PATH": f"{PREFIX}/bin:/usr/bin:/bin"})


def test_a_jail_reaches_what_is_on_its_allowlist_and_nothing_else(allowlist_checks: ModuleType) -> None:
    async def check() -> None:
        with allowlist_checks.serve() as server:
            async with open_local_provider({"pins": {"mirror.test": "127.0.0.1"}}) as provider:
                await allowlist_checks.check_allowlist(provider, server, IMAGE)

    anyio.run(check)


def test_the_probe_of_a_network_takes_a_refusal_for_an_answer() -> None:
    async def check() -> None:
        async with open_local_provider({}) as provider, provider.lease(LeaseRequest(image=Image(image_id="x"))) as box:
            client = box.client  # type: ignore[attr-defined] -- the agent's client
            await prove_sealed(client, AGENT, ["203.0.113.1", "2001:db8::1"])
            for address in ("127.0.0.1", "no address"):
                with pytest.raises(SandboxStartError, match=f"not closed: .*{address}"):
                    await prove_sealed(client, AGENT, ["203.0.113.1", address])

    anyio.run(check)


def test_a_name_that_is_none_is_told_before_anything_runs() -> None:
    async def check() -> None:
        request = LeaseRequest(image=IMAGE, network=Network.ALLOWLIST, allowed_hosts=("http://a",))
        async with open_local_provider({}) as provider, provider.lease(request):
            pass

    with pytest.raises(SettingsError, match="no host name"):
        anyio.run(check)
