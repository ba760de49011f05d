"""One jail from its making to its end: asks the keeper for a holder, and holds the agent inside (see `holder`)."""

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import anyio.to_thread

from envfarm.errors import SandboxStartError
from envfarm.records.image import FolderAccess
from envfarm.sandbox.allowlist.way_out import VARIABLES, open_way_out
from envfarm.sandbox.box_variables import base_variables
from envfarm.sandbox.client.connection import AgentClient, open_agent
from envfarm.sandbox.client.link import Claim
from envfarm.sandbox.client.roads import SingleRoad, SocketStream, widen
from envfarm.sandbox.client.sandbox import AgentSandbox, BoxSettings
from envfarm.sandbox.contract import LeaseRequest, Network
from envfarm.sandbox.local.cgroups import ControlGroups, make_control_groups
from envfarm.sandbox.local.jail_command import AGENT, BoxPaths, HostFacts, jail_arguments
from envfarm.sandbox.local.lease import HolderChannel, LocalSandbox
from envfarm.sandbox.local.leftovers import GROUP_PREFIX
from envfarm.sandbox.one_error import as_raised
from envfarm.sandbox.owner_mark import owner_mark

_START_SECONDS = 60.0
_GROUP_TRIES, _GROUP_PAUSE_SECONDS = 500, 0.01
_INODES_PER_BYTE = 1 / 4096
_LEASE_SECONDS = 600.0
OWN_PROCESSES = 16
"""Of each jail besides what its commands start: the agent, its minders, bubblewrap."""


@dataclass(frozen=True, kw_only=True)
class JailOrder:
    """What a jail is made from."""

    request: LeaseRequest
    proxy_folder: str | None

    @property
    def key(self) -> str:
        """Equal for orders that the same jail could serve."""
        return repr((replace(self.request, labels={}), self.proxy_folder))

    @property
    def may_stand_ready(self) -> bool:
        """Whether it may be made before it is asked for: not where it writes to folders of this machine."""
        folders = self.request.image.folders + self.request.folders
        return all(folder.access != FolderAccess.READ_WRITE for folder in folders)


class JailMaker:
    """Makes jails through the keeper."""

    def __init__(self, keeper: socket.socket, folder: Path, facts: HostFacts) -> None:
        """Take the socket to the keeper, the provider's folder, and what is known of the host."""
        self._keeper = keeper
        self._folder = folder
        self._facts = facts
        self._leases = 0

    @asynccontextmanager
    async def open(self, order: JailOrder) -> AsyncIterator[AgentSandbox]:
        """Make a jail for the length of the block.

        Raises:
            SandboxStartError: It could not be made; nothing is left of it.
            MissingToolError: This machine forbids what it needs.
        """
        request = order.request
        self._leases += 1
        groups = make_control_groups(
            f"{GROUP_PREFIX}{owner_mark()}{id(self):x}-{self._leases}",
            memory_bytes=request.limits.memory_bytes,
            process_count=request.limits.process_count + OWN_PROCESSES,
            cpu_cores=request.limits.cpu_cores,
        )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wire, agents_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        widen(agents_end)
        ours.setblocking(False)  # noqa: FBT003 -- the parameter is positional only
        with ours, wire:
            try:
                self._ask_for_jail(order, groups, (theirs, agents_end))
            except BaseException:
                groups.remove()
                raise
            channel = HolderChannel(ours)
            listening = anyio.CancelScope(shield=True)
            async with as_raised(), anyio.create_task_group() as group:
                group.start_soon(_listen, channel, listening)
                try:
                    async with _open_jail(channel, wire) as client, _network(client, request.network):
                        yield LocalSandbox(client, _settings_of(request, groups), channel, groups)
                finally:
                    with suppress(OSError):
                        ours.shutdown(socket.SHUT_WR)
                    with anyio.CancelScope(shield=True), anyio.move_on_after(_START_SECONDS):
                        await channel.gone.wait()
                        await _remove(groups)
                    listening.cancel()

    def _ask_for_jail(
        self, order: JailOrder, groups: ControlGroups, theirs: tuple[socket.socket, socket.socket]
    ) -> None:
        request = order.request
        try:
            folders = request.image.folders + request.folders
            for folder in folders:
                if not Path(folder.source).exists():
                    message = f"the folder {folder.source} for {folder.target} does not exist"
                    raise SandboxStartError(message, retryable=False)
            copies = tuple(
                dict.fromkeys(folder.source for folder in folders if folder.access == FolderAccess.COPY_ON_WRITE)
            )
            paths = BoxPaths(box=str(self._folder / "box"), copies=copies, proxy=order.proxy_folder)
            spec = {
                "box": paths.box,
                "networked": request.network is Network.PUBLIC,
                "disk_bytes": request.limits.disk_bytes,
                "inodes": max(int(request.limits.disk_bytes * _INODES_PER_BYTE), 10_000),
                "copy_on_write": copies,
                "cgroups": [str(folder) for folder in groups.folders],
                "join": groups.join_files(),
                "agent": self._facts.agent,
                "argv": jail_arguments(self._facts, request, paths),
            }
            socket.send_fds(self._keeper, [json.dumps(spec).encode()], [end.fileno() for end in theirs])
        except OSError as error:
            message = f"the keeper of the local sandboxes is gone: {error}"
            raise SandboxStartError(message) from error
        finally:
            for end in theirs:
                end.close()


@asynccontextmanager
async def _open_jail(channel: HolderChannel, wire: socket.socket) -> AsyncIterator[AgentClient]:
    """Hold the agent of a jail that is being made; its holder ends it."""
    claim = Claim(name=f"driver {os.getpid()}", key=os.urandom(32), lease_seconds=_LEASE_SECONDS)
    road = SingleRoad(SocketStream(wire))
    with anyio.move_on_after(_START_SECONDS):
        await channel.ready.wait()
    channel.raise_failure()
    try:
        async with open_agent(road, claim, start_seconds=_START_SECONDS, ends_agent=False) as client:
            yield client
    except SandboxStartError:
        with anyio.move_on_after(1):
            await channel.gone.wait()
        channel.raise_failure()
        raise


@asynccontextmanager
async def _network(client: AgentClient, network: Network) -> AsyncIterator[None]:
    if network is not Network.ALLOWLIST:  # a box without any network is in a namespace that its holder made for it
        yield
        return
    async with open_way_out(client, AGENT):
        yield


def _settings_of(request: LeaseRequest, groups: ControlGroups) -> BoxSettings:
    proxy = VARIABLES if request.network is Network.ALLOWLIST else {}
    return BoxSettings(
        env=base_variables({**proxy, **request.image.environment_variables}),
        limits=request.limits,
        bounds_by_agent=groups.memory is None or groups.pids is None,
        keeps_background=request.keeps_background,
    )


async def _remove(groups: ControlGroups) -> None:
    """Remove what a holder that was killed left of its groups; their last processes may take a moment to be gone."""
    for _ in range(_GROUP_TRIES):
        if groups.remove():
            return
        await anyio.sleep(_GROUP_PAUSE_SECONDS)


async def _listen(channel: HolderChannel, listening: anyio.CancelScope) -> None:
    """Take what the holder says also while the lease is being cancelled."""
    with listening:
        await channel.listen()
