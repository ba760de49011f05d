"""The local provider: leases jails on this machine (see `holder` for who owns what)."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from envfarm.errors import MissingToolError, SandboxStartError, SettingsError
from envfarm.records.image import FolderAccess
from envfarm.sandbox.contract import LeaseRequest, Network, Privileges, Sandbox
from envfarm.sandbox.local.cgroups import ControlGroups, make_control_groups
from envfarm.sandbox.local.host_facts import read_host_facts
from envfarm.sandbox.local.jail_command import BoxPaths, HostFacts, lease_arguments
from envfarm.sandbox.local.lease import LocalSandbox
from envfarm.sandbox.local.leftovers import FOLDER_PREFIX, GROUP_PREFIX, remove_leftovers
from envfarm.sandbox.one_error import as_raised
from envfarm.sandbox.owner_mark import owner_mark

_START_SECONDS = 60.0
_GROUP_TRIES, _GROUP_PAUSE_SECONDS = 500, 0.01
_INODES_PER_BYTE = 1 / 4096
_MAXIMUM_MESSAGE = 1 << 20
NAMESPACES_MENDING = (
    "allow them with: sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=65536 "
    "kernel.apparmor_restrict_unprivileged_userns=0 (those that exist); a container needs "
    "--security-opt seccomp=unconfined --security-opt systempaths=unconfined"
)


@asynccontextmanager
async def open_local_provider(options: Mapping[str, object]) -> AsyncIterator["LocalProvider"]:
    """Open the local provider: starts the keeper, and ends it with the block.

    Raises:
        SettingsError: An option is unknown; there are none.
        MissingToolError: bubblewrap is not installed.
    """
    if options:
        message = f"the local sandbox has no option {min(options)!r}: remove it from [sandbox.options]"
        raise SettingsError(message)
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
                yield LocalProvider(ours, folder, facts)
            finally:
                ours.close()
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(keeper.wait)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class LocalProvider:
    """Leases jails; use `open_local_provider`."""

    def __init__(self, keeper: socket.socket, folder: Path, facts: HostFacts) -> None:
        """Take the socket to the keeper, the provider's folder, and what is known of the host."""
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
        self._leases += 1
        groups = make_control_groups(
            f"{GROUP_PREFIX}{owner_mark()}{id(self):x}-{self._leases}",
            memory_bytes=request.limits.memory_bytes,
            process_count=request.limits.process_count,
        )
        channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with channel:
            channel.setblocking(False)  # noqa: FBT003 -- the parameter is positional only
            try:
                paths = self._ask_for_holder(request, groups, theirs)
                await self._wait_until_ready(channel)
            except BaseException:
                groups.remove()
                raise
            sandbox = LocalSandbox(channel, lease_arguments(self._facts, request, paths), request.limits, groups)
            listening = anyio.CancelScope(shield=True)
            async with as_raised(), anyio.create_task_group() as group:
                group.start_soon(_listen, sandbox, listening)
                try:
                    yield sandbox
                finally:
                    channel.shutdown(socket.SHUT_WR)
                    with anyio.CancelScope(shield=True), anyio.move_on_after(_START_SECONDS):
                        await sandbox.gone.wait()
                        await _remove(groups)
                    listening.cancel()

    def _ask_for_holder(self, request: LeaseRequest, groups: ControlGroups, theirs: socket.socket) -> BoxPaths:
        folders = request.image.folders + request.folders
        for folder in folders:
            if not Path(folder.source).exists():
                theirs.close()
                message = f"the folder {folder.source} for {folder.target} does not exist"
                raise SandboxStartError(message, retryable=False)
        copies = tuple(
            dict.fromkeys(folder.source for folder in folders if folder.access == FolderAccess.COPY_ON_WRITE)
        )
        paths = BoxPaths(box=str(self._folder / "box"), copies=copies)
        spec = {
            "box": paths.box,
            "networked": request.network is Network.PUBLIC,
            "disk_bytes": request.limits.disk_bytes,
            "inodes": max(int(request.limits.disk_bytes * _INODES_PER_BYTE), 10_000),
            "copy_on_write": copies,
            "cgroups": [str(folder) for folder in groups.folders],
        }
        try:
            socket.send_fds(self._keeper, [json.dumps(spec).encode()], [theirs.fileno()])
        except OSError as error:
            message = f"the keeper of the local sandboxes is gone: {error}"
            raise SandboxStartError(message) from error
        finally:
            theirs.close()
        return paths

    async def _wait_until_ready(self, channel: socket.socket) -> None:
        with anyio.move_on_after(_START_SECONDS):
            await anyio.wait_readable(channel)
            data = channel.recv(_MAXIMUM_MESSAGE)
            answer = json.loads(data) if data else {"error": "its process ended"}
            if "error" not in answer:
                return
            if answer.get("forbidden"):
                message = f"user namespaces are forbidden here ({answer['error']}): {NAMESPACES_MENDING}"
                raise MissingToolError(message)
            message = f"a local sandbox could not be made: {answer['error']}"
            raise SandboxStartError(message)
        message = f"a local sandbox was not ready within {_START_SECONDS:.0f} s"
        raise SandboxStartError(message)


def _refuse_foreign(request: LeaseRequest) -> None:
    """Refuse what only a container engine has."""
    wishes = {
        "an image of a container engine": request.image.reference is not None and not request.image.folders,
        "root of the box": request.privileges is Privileges.ROOT,
        "an allowlist of hosts": request.network is Network.ALLOWLIST,
        "processes that outlive their command": request.keeps_background,
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


async def _listen(sandbox: LocalSandbox, listening: anyio.CancelScope) -> None:
    """Take the holder's answers also while the lease is being cancelled: its commands end through them."""
    with listening:
        await sandbox.listen()
