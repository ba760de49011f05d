"""A container that the machine has no memory for is lost: no command of it has ended, and none gets another's end."""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from envfarm.errors import SandboxLostError
from envfarm.records.image import Image
from envfarm.sandbox.contract import MEBIBYTE, LeaseRequest, Limits
from envfarm.sandbox.docker.engine import Engine, open_engine
from envfarm.sandbox.docker.provider import open_docker_provider

PARENT = f"envfarmtest{os.getpid()}.slice"
HUNGRY = 'head -c 200M /dev/zero | tail; echo "$?"'


def test_a_container_that_the_machine_has_no_memory_for_is_lost(
    docker_base: str, memory_groups: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Engine.create_container
    with open_engine() as engine:
        is_systemd = engine.facts()["CgroupDriver"] == "systemd"
    below = {"CgroupParent": PARENT if is_systemd else f"/{PARENT}"}

    def create_below(engine: Engine, body: dict[str, Any]) -> str:
        return create(engine, {**body, "HostConfig": {**body["HostConfig"], **below}})

    monkeypatch.setattr(Engine, "create_container", create_below)
    request = LeaseRequest(image=Image(image_id="hungry"), limits=Limits(memory_bytes=512 * MEBIBYTE))
    parent = Path("/sys/fs/cgroup") / ("" if memory_groups.IS_UNIFIED else "memory") / PARENT

    async def run() -> None:
        async with open_docker_provider({"base": docker_base}) as provider, provider.lease(request) as box:
            assert (await box.exec(["sh", "-c", HUNGRY], timeout_seconds=60)).stderr == b""
            memory_groups.bound_memory(parent, 100 * MEBIBYTE)
            with pytest.raises(SandboxLostError, match="this machine has no memory left"):
                await box.exec(["sh", "-c", HUNGRY], timeout_seconds=60)
            with pytest.raises(SandboxLostError, match="this machine has no memory left"):
                await box.exec(["true"], timeout_seconds=60)

    try:
        anyio.run(run)
    finally:
        for folder in (*Path("/sys/fs/cgroup").glob(PARENT), *Path("/sys/fs/cgroup").glob(f"*/{PARENT}")):
            memory_groups.remove(folder)
