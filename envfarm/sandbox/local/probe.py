"""Tries what the local jail needs on this machine, by leasing a real one."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import anyio

from envfarm.errors import EnvfarmError, MissingToolError
from envfarm.records.image import Folder, FolderAccess, Image
from envfarm.sandbox.contract import LeaseRequest
from envfarm.sandbox.finding import Finding
from envfarm.sandbox.local.cgroups import make_control_groups
from envfarm.sandbox.local.host_facts import find_bubblewrap
from envfarm.sandbox.local.lease import NAMESPACES_MENDING
from envfarm.sandbox.local.provider import open_local_provider

_APT = "apt-get install bubblewrap"


async def probe_local_jail() -> list[Finding]:
    """Return what of the local jail works: program, namespaces, a real jail, copy-on-write, limits."""
    bubblewrap = _bubblewrap()
    return [bubblewrap, await _namespaces(), await _jail(bubblewrap.mend or NAMESPACES_MENDING), _limits()]


def _bubblewrap() -> Finding:
    try:
        program = find_bubblewrap()
    except MissingToolError:
        return Finding(name="bubblewrap", works=False, detail="not installed", mend=_APT, needed=True)
    return Finding(name="bubblewrap", works=True, detail=_version(program), needed=True)


async def _namespaces() -> Finding:
    name = "user namespaces"
    if shutil.which("unshare") is None:
        return Finding(
            name=name, works=False, detail="not tried: there is no unshare", mend="apt-get install util-linux"
        )
    tried = await anyio.run_process(["unshare", "-Ur", "true"], check=False)
    if tried.returncode != 0:
        return Finding(name=name, works=False, detail="forbidden", mend=NAMESPACES_MENDING, needed=True)
    return Finding(name=name, works=True, detail="allowed", needed=True)


def _version(program: str) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()


async def _jail(mend: str) -> Finding:
    with tempfile.TemporaryDirectory(prefix="envfarm-probe-") as name:
        file = Path(name) / "file"
        file.write_text("before\n")
        folder = Folder(source=name, target="/workspace", access=FolderAccess.COPY_ON_WRITE)
        request = LeaseRequest(image=Image(image_id="probe", folders=(folder,)))
        try:
            async with open_local_provider({}) as provider, provider.lease(request) as sandbox:
                result = await sandbox.exec(
                    ["sh", "-c", "echo after > file && grep -c overlay /proc/self/mountinfo"], timeout_seconds=30
                )
        except MissingToolError as error:
            return Finding(name="jail", works=False, detail=str(error), mend=mend, needed=True)
        except (EnvfarmError, OSError) as error:
            return Finding(name="jail", works=False, detail=str(error), needed=True)
        kept = file.read_text() == "before\n"
    overlay = result.stdout.strip() not in {b"", b"0"}
    said = "a command ran; the workspace is " + ("an overlay" if overlay else "copied, since overlays are refused here")
    works = result.exit_code in {0, 1} and kept
    return Finding(
        name="jail", works=works, detail=said if works else result.stderr.decode(errors="replace"), needed=True
    )


def _limits() -> Finding:
    groups = make_control_groups(f"envfarm-probe-{os.getpid()}")
    groups.remove()
    kinds = {"memory": groups.memory, "processes": groups.pids, "processors": groups.cpu}
    found = [kind for kind, folder in kinds.items() if folder is not None]
    if len(found) == len(kinds):
        detail = "memory, processes and processors are bounded by control groups"
        return Finding(name="cgroup limits", works=True, detail=detail)
    detail = (
        f"control groups bound {', '.join(found) or 'nothing'}: rlimits serve for memory and processes, and bound each "
        "process by itself; nothing else bounds processors"
    )
    return Finding(
        name="cgroup limits", works=False, detail=detail, mend="systemd-run --user --scope -p Delegate=yes envfarm ..."
    )
