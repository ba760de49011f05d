"""A local jail has no more processors than its lease says, where this user may bound them."""

import os

import anyio
import pytest

from envfarm.records.image import Image
from envfarm.sandbox.contract import ExecResult, LeaseRequest, Limits
from envfarm.sandbox.local.cgroups import find_control_groups, make_control_groups
from envfarm.sandbox.local.leftovers import GROUP_PREFIX
from envfarm.sandbox.local.provider import open_local_provider

BURN = "for i in 1 2 3; do timeout 3 sh -c 'while :; do :; done' & done; wait"


def may_bound() -> bool:
    groups = make_control_groups(f"envfarm-tried-{os.getpid()}")
    groups.remove()
    return groups.cpu is not None


@pytest.mark.skipif(
    not may_bound(), reason="this user may make no control groups: systemd-run --user --scope -p Delegate=yes"
)
def test_busy_processes_share_the_processors_of_their_lease() -> None:
    async def burn(cores: float) -> ExecResult:
        request = LeaseRequest(image=Image(image_id="x"), limits=Limits(cpu_cores=cores))
        async with open_local_provider({}) as provider, provider.lease(request) as box:
            return await box.exec(["sh", "-c", BURN], timeout_seconds=60)

    result = anyio.run(burn, 0.25)
    assert not result.timed_out
    assert 0.05 < result.cpu_seconds < 0.25 * result.wall_seconds * 1.3 + 0.1, result
    assert not [group for group in find_control_groups(GROUP_PREFIX) if f"-{os.getpid()}-" in group.name]
