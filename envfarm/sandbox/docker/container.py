"""A lease as the body that makes a container. PURE: what of this machine matters is told by the caller.

Covered: no network unless asked for; memory, swap, processes and processors are bounded by control groups, every place
that can be written is a tmpfs with a bound, charged to the box's own memory; the engine's default system call filter.
With Privileges.NONE: an ordinary user, no capability, no new privileges, a read-only root.

Not covered: the kernel is the host's. The bound on disk holds for each place by itself, and for all together that on
memory. With Privileges.ROOT, and for an image that brings its own workspace, writes go to a layer on the engine's disk,
which is bounded only where the engine can bound it (`can_bound_layers`), or to volumes that the image names, which no
engine bounds; capabilities are then the engine's usual ones. The folder of the agent's socket can be written by who is
the driver's own user or root of the box, up to the box's memory.
"""

import math
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envfarm.records.image import Folder, FolderAccess
from envfarm.sandbox.box_variables import HOME, HOST_NAME, PROXY_FOLDER
from envfarm.sandbox.contract import WORKSPACE, LeaseRequest, Limits, Network, Privileges

BOX_FOLDER = "/.envfarm"
AGENT = f"{BOX_FOLDER}/agent"
SOCKET_FOLDER = f"{BOX_FOLDER}/run"
SOCKET_NAME = "agent"
OWNER_LABEL = "envfarm.owner"
"""Says which driver a container belongs to."""
PROVIDER_LABEL = "envfarm.provider"
"""Says which open provider of that driver it belongs to."""
_PURPOSE_PREFIX = "envfarm.lease."
_OWN_PROCESSES = 16
"""For the agent and its minders, one for each command that runs."""
_ROOTS_HOME = "/root"
_HOSTS_PLACE = "/etc/hosts"
_INODES_PER_BYTE = 1 / 4096
_FEWEST_INODES = 10_000
_UNCLAIMED_SECONDS = 60
_FIRST_PROCESS = {
    "Entrypoint": [AGENT],
    "Cmd": ["--unix", f"{SOCKET_FOLDER}/{SOCKET_NAME}", "--unclaimed-seconds", str(_UNCLAIMED_SECONDS)],
    "WorkingDir": "/",
    "Hostname": HOST_NAME,
    "StopSignal": "SIGKILL",
    "Healthcheck": {"Test": ["NONE"]},
}


@dataclass(frozen=True, kw_only=True)
class ContainerPlan:
    """What a container is made with.

    Attributes:
        image: Reference or id of the image of the engine.
        user: UID of the agent and, but for Privileges.ROOT, of all commands.
        body: For the engine's API; without what is each container's own.
        copies: (place in the box, target) of folders that are copied before the lease is given.
        key: Equal for requests that the same container could serve.
        is_shared: Whether folders of this machine are written, so that no box may stand ready for a later lease.
    """

    image: str
    user: int
    body: Mapping[str, Any]
    copies: tuple[tuple[str, str], ...]
    key: str
    is_shared: bool


@dataclass(frozen=True, kw_only=True)
class DriverFacts:
    """What of this machine matters for a container.

    Attributes:
        uid: User id of the driver.
        agent_program: Path of the agent.
        hosts_file: File with `HOSTS`, for boxes whose network the engine does not make.
        can_bound_layers: Whether the engine can bound what is written to a container's own layer.
    """

    uid: int
    agent_program: str
    hosts_file: str
    can_bound_layers: bool


def plan_container(
    request: LeaseRequest,
    facts: DriverFacts,
    *,
    image: str,
    proxy_folder: str | None = None,
    volumes: Sequence[str] = (),
) -> ContainerPlan:
    """Return how to make a container for a request.

    Args:
        request: What is asked for.
        facts: What of this machine matters.
        image: Image of the engine: the request's own or the provider's base.
        proxy_folder: Folder with the socket of an allowlist's proxy, where there is one.
        volumes: Places that the image wants on a disk of their own, which none bounds: empty, bounded places instead.
    """
    is_root, folders = request.privileges is Privileges.ROOT, _folders_of(request)
    user = _user_of(folders, facts.uid, is_root=is_root)
    binds, copies = _binds(folders)
    is_alone = not is_root and request.network is not Network.PUBLIC
    ours = {
        AGENT: facts.agent_program,
        PROXY_FOLDER: proxy_folder,
        _HOSTS_PLACE: facts.hosts_file if is_alone else None,
    }
    binds += [_bind(source, target, read_only=True) for target, source in ours.items() if source is not None]
    brings_workspace = request.image.reference is not None and not any(_is_workspace(folder) for folder in folders)
    writable_layer = is_root or brings_workspace
    volumes = () if writable_layer else volumes
    places = _places(folders, volumes, is_root=is_root, brings_workspace=brings_workspace)
    body = {
        **_FIRST_PROCESS,
        "Image": image,
        "User": f"{user}:{user}",
        "NetworkDisabled": is_alone,  # loopback is then the runtime's work, at half of what a start costs
        "HostConfig": {
            **_bounds(request.limits, bound_layer=writable_layer and facts.can_bound_layers),
            "AutoRemove": True,
            "IpcMode": "private",
            "LogConfig": {"Type": "none"},
            "Mounts": binds,
            "NetworkMode": "bridge" if request.network is Network.PUBLIC else "none",
            "ReadonlyRootfs": not writable_layer,
            "Tmpfs": {target: _tmpfs(request.limits, mode, user) for target, mode in places.items()},
            **({} if is_root else {"CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges:true"]}),
        },
    }
    told = (body, copies, sorted(request.image.environment_variables.items()), request.network, request.allowed_hosts)
    return ContainerPlan(
        image=image,
        user=user,
        body=body,
        copies=tuple(copies),
        key=repr((told, request.limits, request.keeps_background)),
        is_shared=_writes_folders(folders),
    )


def complete_body(
    plan: ContainerPlan, *, socket_folder: str, labels: Mapping[str, str], owner: str, provider: str
) -> dict[str, Any]:
    """Return the body of one container of a plan."""
    host = plan.body["HostConfig"]
    mounts = [*host["Mounts"], _bind(socket_folder, SOCKET_FOLDER, read_only=False)]
    told = {f"{_PURPOSE_PREFIX}{name}": text for name, text in labels.items()}
    return {
        **plan.body,
        "HostConfig": {**host, "Mounts": mounts},
        "Labels": {OWNER_LABEL: owner, PROVIDER_LABEL: provider, **told},
    }


def _folders_of(request: LeaseRequest) -> list[Folder]:
    """Return all folders, those that lie below others behind them."""
    return sorted(request.image.folders + request.folders, key=lambda item: item.target.count("/"))


def _user_of(folders: list[Folder], driver_uid: int, *, is_root: bool) -> int:
    """Return whom the agent runs as: the driver's own user where that is an ordinary one.

    Root drives boxes as another user, unless a folder of root's is to be written: then as root without capabilities.
    """
    if is_root:
        return 0
    return driver_uid if driver_uid != 0 or _writes_folders(folders) else 1000


def _writes_folders(folders: list[Folder]) -> bool:
    return any(folder.access == FolderAccess.READ_WRITE for folder in folders)


def _places(folders: list[Folder], volumes: Sequence[str], *, is_root: bool, brings_workspace: bool) -> dict[str, int]:
    """Return which places are a tmpfs, and their modes."""
    shown = {folder.target for folder in folders}
    places = {place: 0o755 for path in volumes if (place := posixpath.normpath(path)) not in shown}
    places |= {} if brings_workspace else {str(WORKSPACE): 0o755}
    places |= {folder.target: 0o755 for folder in folders if folder.access == FolderAccess.COPY_ON_WRITE}
    if is_root:
        return places
    if any(folder.target.startswith(f"{_ROOTS_HOME}/") for folder in folders):
        places[_ROOTS_HOME] = 0o755  # images keep it closed to others, and interpreters may lie below it
    return {HOME: 0o700, "/tmp": 0o1777, **places}  # noqa: S108 -- inside


def _binds(folders: list[Folder]) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    binds, copies = [], []
    for number, folder in enumerate(folders):
        target = folder.target
        if folder.access == FolderAccess.COPY_ON_WRITE:
            target = f"{BOX_FOLDER}/copied/{number}"
            copies.append((target, folder.target))
        binds.append(_bind(folder.source, target, read_only=folder.access != FolderAccess.READ_WRITE))
    return binds, copies


def _bind(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def _is_workspace(folder: Folder) -> bool:
    return folder.target == str(WORKSPACE)


def _tmpfs(limits: Limits, mode: int, user: int) -> str:
    owner = f"uid={user},gid={user},mode={mode:o}"
    inodes = max(int(limits.disk_bytes * _INODES_PER_BYTE), _FEWEST_INODES)
    return f"rw,exec,nosuid,nodev,size={limits.disk_bytes},nr_inodes={inodes},{owner}"


def _bounds(limits: Limits, *, bound_layer: bool) -> dict[str, Any]:
    bounds: dict[str, Any] = {
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,
        "PidsLimit": limits.process_count + _OWN_PROCESSES,
        "ShmSize": limits.disk_bytes,
    }
    if limits.cpu_cores is not None:
        bounds["NanoCpus"] = math.ceil(limits.cpu_cores * 1e9)
    if bound_layer:
        bounds["StorageOpt"] = {"size": str(limits.disk_bytes)}
    return bounds
