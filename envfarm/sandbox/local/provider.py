"""The local provider: leases jails on this machine (see `holder` for who owns what)."""

import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import anyio
import anyio.to_thread
import msgspec

from envfarm.errors import SandboxStartError, SettingsError
from envfarm.sandbox.allowlist.way_out import AllowlistProxies
from envfarm.sandbox.client.sandbox import AgentSandbox
from envfarm.sandbox.contract import LeaseRequest, Network, Privileges, Sandbox
from envfarm.sandbox.local.base_jail import BaseJailMaker
from envfarm.sandbox.local.host_facts import read_host_facts
from envfarm.sandbox.local.jail import JailMaker, JailOrder
from envfarm.sandbox.local.leftovers import FOLDER_PREFIX, remove_leftovers
from envfarm.sandbox.one_error import as_raised
from envfarm.sandbox.owner_mark import owner_mark
from envfarm.sandbox.warm_pool import WarmPool


@asynccontextmanager
async def open_local_provider(options: Mapping[str, object]) -> AsyncIterator["LocalProvider"]:
    """Open the local provider: starts the keeper, and ends it with the block.

    Raises:
        SettingsError: An option is unknown; there are those of `LocalOptions`.
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
                    box = str(folder / "box")
                    jails = JailMaker(group, BaseJailMaker(ours, box, facts), box, facts)
                    pool = WarmPool(group, jails.open, chosen.warm_boxes)
                    jails.begin()
                    try:
                        yield LocalProvider(pool, proxies)
                    finally:
                        await pool.end()
                        await jails.end()
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
        warm_boxes: How many boxes stand ready in all, for the requests that came last.
    """

    pins: dict[str, str] = {}
    warm_boxes: Annotated[int, msgspec.Meta(ge=0)] = 0


def _read_options(options: Mapping[str, object]) -> LocalOptions:
    try:
        return msgspec.convert(options, LocalOptions)
    except msgspec.ValidationError as error:
        message = f"[sandbox.options] of the local sandbox: {error} (it has: pins, warm_boxes)"
        raise SettingsError(message) from error


class LocalProvider:
    """Leases jails; use `open_local_provider`."""

    def __init__(self, pool: "WarmPool[JailOrder, AgentSandbox]", proxies: AllowlistProxies) -> None:
        """Take what gives jails, and the proxies of allowlists."""
        self._pool = pool
        self._proxies = proxies

    @property
    def name(self) -> str:
        """The entry-point name."""
        return "local"

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Sandbox]:
        """Give a fresh jail for the length of the block; see the contract."""
        async with self._pool.lease(await self._order(request)) as box:
            yield box

    async def prepare(self, request: LeaseRequest, count: int) -> None:
        """Have jails stand ready for a request; see `PreparesSandboxes`."""
        await self._pool.prepare(await self._order(request), count)

    async def _order(self, request: LeaseRequest) -> JailOrder:
        _refuse_foreign(request)
        proxy_folder = None
        if request.network is Network.ALLOWLIST:
            proxy_folder = str(await self._proxies.folder_for(request.allowed_hosts))
        return JailOrder(request=request, proxy_folder=proxy_folder)


def _refuse_foreign(request: LeaseRequest) -> None:
    """Refuse what only a container engine has."""
    wishes = {
        "an image of a container engine": request.image.reference is not None and not request.image.folders,
        "services beside a box": request.services is not None,
        "root of the box": request.privileges is Privileges.ROOT,
    }
    for wish, is_asked in wishes.items():
        if is_asked:
            message = f"the local sandbox has no {wish}: use --sandbox docker"
            raise SandboxStartError(message, retryable=False)
