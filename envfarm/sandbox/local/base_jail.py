"""A jail before its lease: it runs, its agent is held, and it has not been shown the lease's folders yet."""

import json
import os
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio

from envfarm.errors import SandboxStartError
from envfarm.sandbox.client.connection import AgentClient, open_agent
from envfarm.sandbox.client.link import Claim
from envfarm.sandbox.client.roads import SingleRoad, SocketStream, widen
from envfarm.sandbox.contract import Limits
from envfarm.sandbox.local.box_plan import BaseWish, Shown, copies_of, inodes_for
from envfarm.sandbox.local.cgroups import ControlGroups, make_control_groups
from envfarm.sandbox.local.host_facts import HostFacts
from envfarm.sandbox.local.jail_command import jail_arguments
from envfarm.sandbox.local.lease import HolderChannel
from envfarm.sandbox.local.leftovers import GROUP_PREFIX
from envfarm.sandbox.one_error import as_raised
from envfarm.sandbox.owner_mark import owner_mark

OWN_PROCESSES = 17
"""Of each jail besides what its commands start: the agent, its minders, bubblewrap."""
_START_SECONDS = 60.0
_GROUP_TRIES, _GROUP_PAUSE_SECONDS = 500, 0.01
_LEASE_SECONDS = 600.0


class BaseJail:
    """A jail that runs."""

    def __init__(self, client: AgentClient, channel: HolderChannel, groups: ControlGroups) -> None:
        """Take its agent, the channel to its holder, and its control groups, which have no bounds yet."""
        self.client = client
        self.channel = channel
        self.groups = groups

    @property
    def is_lost(self) -> bool:
        """Whether it is of no use any more."""
        return self.client.lost.is_set()

    async def fill(self, limits: Limits, shown: Sequence[Shown]) -> None:
        """Bound it, and show it the folders of a lease.

        Raises:
            SandboxStartError: It cannot be bounded, or a folder cannot be shown.
        """
        try:
            self.groups.bound(
                memory_bytes=limits.memory_bytes,
                process_count=limits.process_count + OWN_PROCESSES,
                cpu_cores=limits.cpu_cores,
            )
        except OSError as error:
            message = f"a local sandbox could not be bounded to its limits: {error}"
            raise SandboxStartError(message, retryable=False) from error
        await self.channel.ask(
            {
                "disk_bytes": limits.disk_bytes,
                "inodes": inodes_for(limits.disk_bytes),
                "folders": [(item.source, item.target, str(item.access)) for item in shown],
            },
            _START_SECONDS,
        )


class BaseJailMaker:
    """Makes jails through the keeper."""

    def __init__(self, keeper: socket.socket, box: str, facts: HostFacts) -> None:
        """Take the socket to the keeper, where holders keep what leases write, and what is known of the host."""
        self._keeper = keeper
        self._box = box
        self._facts = facts
        self._made = 0

    @asynccontextmanager
    async def open(self, wish: BaseWish) -> AsyncIterator[BaseJail]:
        """Make a jail for the length of the block.

        Raises:
            SandboxStartError: It could not be made; nothing is left of it.
            MissingToolError: This machine forbids what it needs.
        """
        require_folders(folder.source for folder in wish.folders)
        self._made += 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wire, agents_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        widen(agents_end)
        groups = make_control_groups(f"{GROUP_PREFIX}{owner_mark()}{id(self):x}-{self._made}")
        ours.setblocking(False)  # noqa: FBT003 -- the parameter is positional only
        with ours, wire:
            try:
                self._ask_for_jail(wish, groups, (theirs, agents_end))
            except BaseException:
                groups.remove()
                raise
            channel = HolderChannel(ours)
            listening = anyio.CancelScope(shield=True)
            async with as_raised(), anyio.create_task_group() as group:
                group.start_soon(_listen, channel, listening)
                try:
                    async with _open_agent_of(channel, wire) as client:
                        try:
                            yield BaseJail(client, channel, groups)
                        finally:
                            _shut(ours)  # the holder ends the box while the agent's client is being closed
                finally:
                    _shut(ours)
                    with anyio.CancelScope(shield=True), anyio.move_on_after(_START_SECONDS):
                        await channel.gone.wait()
                        await _remove(groups)
                    listening.cancel()

    def _ask_for_jail(self, wish: BaseWish, groups: ControlGroups, theirs: tuple[socket.socket, socket.socket]) -> None:
        try:
            spec = {
                "box": self._box,
                "networked": wish.networked,
                "disk_bytes": wish.disk_bytes,
                "inodes": inodes_for(wish.disk_bytes),
                "copy_on_write": copies_of(wish.folders),
                "cgroups": [str(folder) for folder in groups.folders],
                "join": groups.join_files(),
                "agent": self._facts.agent,
                "argv": jail_arguments(self._facts, wish, self._box),
            }
            socket.send_fds(self._keeper, [json.dumps(spec).encode()], [end.fileno() for end in theirs])
        except OSError as error:
            message = f"the keeper of the local sandboxes is gone: {error}"
            raise SandboxStartError(message) from error
        finally:
            for end in theirs:
                end.close()


def require_folders(sources: Iterable[str]) -> None:
    """Refuse folders that are not there.

    Raises:
        SandboxStartError: One is missing.
    """
    for source in sources:
        if not Path(source).exists():
            message = f"the folder {source} does not exist"
            raise SandboxStartError(message, retryable=False)


@asynccontextmanager
async def _open_agent_of(channel: HolderChannel, wire: socket.socket) -> AsyncIterator[AgentClient]:
    """Hold the agent of a jail that is being made; its holder ends it."""
    claim = Claim(name=f"driver {os.getpid()}", key=os.urandom(32), lease_seconds=_LEASE_SECONDS)
    road = SingleRoad(SocketStream(wire), is_private=True)
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


def _shut(channel: socket.socket) -> None:
    with suppress(OSError):
        channel.shutdown(socket.SHUT_WR)


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
