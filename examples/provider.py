"""A sandbox provider in sixty lines: containers by the docker command, the agent inside. It keeps the contract."""

import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath

import anyio

from envfarm.errors import SandboxStartError
from envfarm.records.image import FolderAccess
from envfarm.sandbox.agent.programs import agent_program
from envfarm.sandbox.box_variables import base_variables
from envfarm.sandbox.client.connection import open_agent
from envfarm.sandbox.client.link import Claim
from envfarm.sandbox.client.roads import UnixRoad
from envfarm.sandbox.client.sandbox import AgentSandbox, BoxSettings
from envfarm.sandbox.contract import LeaseRequest, Sandbox

IMAGE = "envfarm-base:bookworm-2"  # envfarm images base


class ExampleProvider:
    """Leases containers; needs nothing but the docker command."""

    name, shares_one_disk = "example", False  # each place has the bound on disk by itself

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Sandbox]:
        """Give a fresh container for the length of the block; the engine removes it when its agent ends."""
        limits, copies = request.limits, []
        with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
            os.chown(place, 1000, 1000)
            flags = "run --rm --detach --network=none --cap-drop=ALL --security-opt=no-new-privileges --read-only"
            flags += f" --user=1000:1000 --memory={limits.memory_bytes} --memory-swap={limits.memory_bytes}"
            flags += f" --pids-limit={limits.process_count + 16} --shm-size={limits.disk_bytes}"
            words = ["docker", *f"{flags} -v {place}:/run/agent -v {agent_program()}:/agent:ro".split()]
            for number, folder in enumerate(request.image.folders + request.folders):
                target, ending = folder.target, "" if folder.access == FolderAccess.READ_WRITE else ",readonly"
                if folder.access == FolderAccess.COPY_ON_WRITE:
                    target, _ = f"/copied/{number}", copies.append((f"/copied/{number}/.", target))
                words += ["--mount", f"type=bind,source={folder.source},target={target}{ending}"]
            for target in {"/tmp", "/home/user", "/workspace", *(target for _, target in copies)}:
                words += ["--tmpfs", f"{target}:exec,uid=1000,gid=1000,mode=755,size={limits.disk_bytes}"]
            if (await anyio.run_process([*words, IMAGE, "/agent", "--unix", "/run/agent/s"], check=False)).returncode:
                raise SandboxStartError("docker run failed", retryable=False)
            claim = Claim(name="example", key=os.urandom(32), lease_seconds=60)
            async with open_agent(UnixRoad(Path(place, "s")), claim) as client:
                env = base_variables(request.image.environment_variables)
                box = AgentSandbox(client, BoxSettings(env=env, limits=limits))
                for source, target in copies:
                    await box.exec(["cp", "-a", source, target], cwd=PurePosixPath("/"), timeout_seconds=60)
                yield box


@asynccontextmanager
async def open_example_provider(options: Mapping[str, object]) -> AsyncIterator[ExampleProvider]:
    """Open the provider; an entry point of group ``envfarm.sandboxes`` names this function."""
    yield ExampleProvider()
