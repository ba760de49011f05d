"""The contract's Sandbox over an agent keeps the contract, in a box of bubblewrap that is as small as one can be."""

import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from envfarm.records.image import Folder, FolderAccess, Image
from envfarm.sandbox.agent.programs import TWIN, agent_program
from envfarm.sandbox.client.connection import open_agent
from envfarm.sandbox.client.link import Claim
from envfarm.sandbox.client.roads import UnixRoad
from envfarm.sandbox.client.sandbox import AgentSandbox, BoxSettings
from envfarm.sandbox.conformance import ConformanceMaterial
from envfarm.sandbox.conformance_commands import COMMAND_CHECKS
from envfarm.sandbox.conformance_files import FILE_CHECKS
from envfarm.sandbox.conformance_limits import file_size_is_held, processor_time_is_held, use_is_accounted
from envfarm.sandbox.contract import WORKSPACE, LeaseRequest, Sandbox

BOUNDS = (file_size_is_held, processor_time_is_held, use_is_accounted)
"""Those of the bounds that are an agent's; memory, processes and disk are a provider's."""
CHECKS = {check.__name__: check for check in (*COMMAND_CHECKS, *FILE_CHECKS, *BOUNDS)}


class SmallBox:
    """A provider: bubblewrap, with an agent as the first process."""

    def __init__(self, program: list[str]) -> None:
        self._program = program
        self.name = "small"

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Sandbox]:
        with tempfile.TemporaryDirectory(prefix="agent-") as folder:
            place = Path(folder)
            words = ["bwrap", "--unshare-all", "--unshare-user", "--as-pid-1", "--die-with-parent", "--clearenv"]
            words += ["--uid", "1000", "--gid", "1000"]
            for name in ("usr", "etc/alternatives", sys.base_prefix):
                words += ["--ro-bind-try", f"/{name.lstrip('/')}", f"/{name.lstrip('/')}"]
            for name in ("bin", "sbin", "lib", "lib64"):
                words += ["--symlink", f"usr/{name}", f"/{name}"]
            words += [
                "--proc",
                "/proc",
                "--dev",
                "/dev",
                "--dir",
                "/home/user",
                "--size",
                str(request.limits.disk_bytes),
            ]
            words += ["--tmpfs", str(WORKSPACE), "--tmpfs", "/tmp", "--tmpfs", "/home/user", "--bind", folder, "/agent"]  # noqa: S108 -- inside
            for item in request.image.folders + request.folders:
                option = "--ro-bind" if item.access == FolderAccess.READ_ONLY else "--bind"
                words += [option, item.source, item.target]
            for path in (TWIN, agent_program()):
                words += ["--ro-bind", str(path), str(path)]
            words += ["--remount-ro", "/", "--", *self._program, "--unix", "/agent/socket"]
            claim = Claim(name="test", key=os.urandom(32), lease_seconds=60)
            env = {"PATH": "/usr/bin:/bin", "HOME": "/home/user", "LANG": "C.UTF-8", "TMPDIR": "/tmp"}  # noqa: S108
            settings = BoxSettings(env={**env, **request.image.environment_variables}, limits=request.limits)
            with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:  # noqa: ASYNC220 -- it returns at once
                async with open_agent(UnixRoad(place / "socket"), claim) as client:
                    yield AgentSandbox(client, settings)
                assert process.wait(10) == 0


def make_image(folders: tuple[Folder, ...]) -> Image:
    path = f"{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin"
    return Image(image_id="conformance", folders=folders, environment_variables={"PATH": path})


@pytest.mark.parametrize("program", ["c", "python"])
@pytest.mark.parametrize("name", CHECKS)
def test_a_box_with_an_agent_keeps_the_contract(name: str, program: str, tmp_path: Path) -> None:
    words = [str(agent_program())] if program == "c" else [os.path.realpath(sys.executable), "-I", "-S", str(TWIN)]
    material = ConformanceMaterial(provider=SmallBox(words), make_image=make_image, folder=tmp_path)

    async def check() -> None:
        with anyio.fail_after(120):
            await CHECKS[name](material)

    anyio.run(check)
