"""The local provider: leases jails on this machine (see `holder` for who owns what)."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from envfarm.errors import SandboxStartError, SettingsError
from envfarm.records.image import FolderAccess
from envfarm.sandbox.allowlist.way_out import VARIABLES, AllowlistProxies, open_way_out
from envfarm.sandbox.box_variables import base_variables
from envfarm.sandbox.client.connection import AgentClient, open_agent
from envfarm.sandbox.client.link import Claim
from envfarm.sandbox.client.roads import SingleRoad, SocketStream
from envfarm.sandbox.client.sandbox import BoxSettings
from envfarm.sandbox.contract import LeaseRequest, Network, Privileges, Sandbox
from envfarm.sandbox.local.cgroups import ControlGroups, make_control_groups
from envfarm.sandbox.local.host_facts import read_host_facts
from envfarm.sandbox.local.jail_command import AGENT, BoxPaths, HostFacts, jail_arguments
from envfarm.sandbox.local.lease import HolderChannel, LocalSandbox
from envfarm.sandbox.local.leftovers import FOLDER_PREFIX, GROUP_PREFIX, remove_leftovers
from envfarm.sandbox.one_error import as_raised
from envfarm.sandbox.owner_mark import owner_mark

_START_SECONDS = 60.0
_GROUP_TRIES, _GROUP_PAUSE_SECONDS = 500, 0.01
_INODES_PER_BYTE = 1 / 4096
_LEASE_SECONDS = 600.0
OWN_PROCESSES = 16
"""Of each jail besides what its commands start: the agent, its minders, bubblewrap."""


@asynccontextmanager
async def open_local_provider(options: Mapping[str, object]) -> AsyncIterator["LocalProvider"]:
    """Open the local provider: starts the keeper, and ends it with the block.

    Raises:
        SettingsError: An option is unknown; there is ``pins``, see `LocalOptions`.
        MissingToolError: bubblewrap is not installed.
    """
    chosen = _read_options(options)
    remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{owner_mark()}"))
    try:
        facts = read_host_facts(folder)
        (folder / "box").mkdir()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            program = Path(__file__).with_name("keeper.py")
            keeper = subprocess.Popen(  # noqa: ASYNC220 -- it returns at once; asyncio's own adds a thread
                [sys.executable, "-I", "-S", "-B", str(program), str(folder)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            theirs.close()
            try:
                async with as_raised(), anyio.create_task_group() as group:
                    proxies = AllowlistProxies(group, folder, chosen.pins)
                    try:
                        yield LocalProvider(ours, folder, facts, proxies)
                    finally:
                        proxies.end()
            finally:
                ours.close()
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(keeper.wait)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class LocalOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the local sandbox.

    Attributes:
        pins: Addresses of hosts of allowlists, such as your own mirror; others are looked up and have to be public.
    """

    pins: dict[str, str] = {}


def _read_options(options: Mapping[str, object]) -> LocalOptions:
    try:
        return msgspec.convert(options, LocalOptions)
    except msgspec.ValidationError as error:
        message = f"[sandbox.options] of the local sandbox: {error} (it has: pins)"
        raise SettingsError(message) from error


class LocalProvider:
    """Leases jails; use `open_local_provider`."""

    def __init__(self, keeper: socket.socket, folder: Path, facts: HostFacts, proxies: AllowlistProxies) -> None:
        """Take the socket to the keeper, the provider's folder, what is known of the host, and allowlists' proxies."""
        self._proxies = proxies
        self._keeper = keeper
        self._folder = folder
        self._facts = facts
        self._leases = 0

    @property
    def name(self) -> str:
        """The entry-point name."""
        return "local"

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Sandbox]:
        """Give a fresh jail for the length of the block; see the contract."""
        _refuse_foreign(request)
        proxy_folder = None
        if request.network is Network.ALLOWLIST:
            proxy_folder = str(await self._proxies.folder_for(request.allowed_hosts))
        self._leases += 1
        groups = make_control_groups(
            f"{GROUP_PREFIX}{owner_mark()}{id(self):x}-{self._leases}",
            memory_bytes=request.limits.memory_bytes,
            process_count=request.limits.process_count + OWN_PROCESSES,
        )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wire, agents_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)  # noqa: FBT003 -- the parameter is positional only
        with ours, wire:
            try:
                self._ask_for_jail(request, proxy_folder, groups, (theirs, agents_end))
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
        self,
        request: LeaseRequest,
        proxy_folder: str | None,
        groups: ControlGroups,
        theirs: tuple[socket.socket, socket.socket],
    ) -> None:
        try:
            folders = request.image.folders + request.folders
            for folder in folders:
                if not Path(folder.source).exists():
                    message = f"the folder {folder.source} for {folder.target} does not exist"
                    raise SandboxStartError(message, retryable=False)
            copies = tuple(
                dict.fromkeys(folder.source for folder in folders if folder.access == FolderAccess.COPY_ON_WRITE)
            )
            paths = BoxPaths(box=str(self._folder / "box"), copies=copies, proxy=proxy_folder)
            spec = {
                "box": paths.box,
                "networked": request.network is Network.PUBLIC,
                "disk_bytes": request.limits.disk_bytes,
                "inodes": max(int(request.limits.disk_bytes * _INODES_PER_BYTE), 10_000),
                "copy_on_write": copies,
                "cgroups": [str(folder) for folder in groups.folders],
                "join": groups.join_files(),
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


def _refuse_foreign(request: LeaseRequest) -> None:
    """Refuse what only a container engine has."""
    wishes = {
        "an image of a container engine": request.image.reference is not None and not request.image.folders,
        "root of the box": request.privileges is Privileges.ROOT,
    }
    for wish, is_asked in wishes.items():
        if is_asked:
            message = f"the local sandbox has no {wish}: use --sandbox docker"
            raise SandboxStartError(message, retryable=False)


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
