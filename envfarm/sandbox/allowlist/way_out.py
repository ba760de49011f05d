"""Opens the way out of a box: proves that there is no other, then joins a port of its loopback to the proxy."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path, PurePosixPath

import anyio

from envfarm.errors import BoundaryError, SandboxStartError
from envfarm.sandbox.allowlist.host_names import read_hosts
from envfarm.sandbox.allowlist.pinned_names import PinnedNames
from envfarm.sandbox.allowlist.proxy import Allowlist, serve_allowlist
from envfarm.sandbox.box_variables import PROXY_FOLDER
from envfarm.sandbox.client.connection import AgentClient
from envfarm.sandbox.client.job import Job, JobSpec, StreamSpec, run_job, start_job

_SOCKET = "socket"
_ADDRESS = "127.0.0.1:3128"
_PROBE_SECONDS, _START_SECONDS = 30.0, 30.0
VARIABLES: Mapping[str, str] = {
    name: value
    for variable, value in (
        ("http_proxy", f"http://{_ADDRESS}"),
        ("https_proxy", f"http://{_ADDRESS}"),
        ("no_proxy", "localhost,127.0.0.1,::1"),
    )
    for name in (variable, variable.upper())
}
"""What tells programs of the proxy."""


def proxy_variables(direct: Iterable[str]) -> dict[str, str]:
    """Return the variables of a box beside which there are hosts that are reached without the proxy."""
    told = ",".join((VARIABLES["no_proxy"], *direct))
    return {**VARIABLES, "no_proxy": told, "NO_PROXY": told}


class AllowlistProxies:
    """The proxies of a provider: one for each set of hosts, for as long as the provider is open."""

    def __init__(self, group: anyio.abc.TaskGroup, place: Path, pins: Mapping[str, str]) -> None:
        """Take the task group that holds them, a folder for their sockets, and addresses that are known beforehand."""
        self._scopes: list[anyio.CancelScope] = []
        self._group = group
        self._place = place
        self._pins = pins
        self._folders: dict[tuple[str, ...], Path] = {}
        self._lock = anyio.Lock()

    async def folder_for(self, hosts: tuple[str, ...]) -> Path:
        """Return the folder with the socket of a proxy that lets these hosts through.

        Raises:
            SettingsError: One of them is no host name.
            SandboxStartError: The proxy cannot listen.
        """
        allowed = read_hosts(hosts)
        key = tuple(sorted(set(hosts)))
        async with self._lock:
            if key not in self._folders:
                folder = self._place / f"proxy-{len(self._folders)}"
                try:
                    folder.mkdir(mode=0o755)
                    allowlist = Allowlist(hosts=allowed, names=PinnedNames(self._pins))
                    self._scopes.append(await serve_allowlist(self._group, folder / _SOCKET, allowlist))
                except OSError as error:
                    message = f"the proxy of an allowlist cannot listen: {error}"
                    raise SandboxStartError(message) from error
                self._folders[key] = folder
        return self._folders[key]

    def end(self) -> None:
        """Close all proxies."""
        for scope in self._scopes:
            scope.cancel()


async def prove_sealed(client: AgentClient, agent: str, group_outside: Sequence[str] | None = None) -> None:
    """Ask the box's own kernel whether anything outside can be reached, before untrusted code runs there.

    Args:
        client: The box's agent.
        agent: Its program in the box.
        group_outside: For a box with a network of its own, where routes prove nothing: addresses beside the probe's own
            that may not answer; None for a box without any.

    Raises:
        SandboxStartError: Something can.
        SandboxLostError: The sandbox is gone.
    """
    probe = ["--sealed"] if group_outside is None else ["--unanswered", *group_outside]
    end = await run_job(client, JobSpec(argv=[agent, *probe], timeout_seconds=_PROBE_SECONDS))
    if end.exit_code != 0:
        told = end.streams[2].data.decode(errors="replace").strip() if 2 in end.streams else ""  # noqa: PLR2004 -- stderr
        message = f"the box's network is not closed: {told or 'the probe did not run'}"
        raise SandboxStartError(message, retryable=False)


@asynccontextmanager
async def open_way_out(
    client: AgentClient, agent: str, group_outside: Sequence[str] | None = None
) -> AsyncIterator[None]:
    """Join a port of the box's loopback to the proxy, for the length of the block; see `prove_sealed`.

    Raises:
        SandboxStartError: The box is not closed otherwise, or the port cannot be had.
        SandboxLostError: The sandbox is gone.
    """
    await prove_sealed(client, agent, group_outside)
    spec = JobSpec(
        argv=[agent, "--forward", _ADDRESS, str(PurePosixPath(PROXY_FOLDER) / _SOCKET)],
        streams={1: StreamSpec(kept_bytes=4096), 2: StreamSpec(kept_bytes=4096)},
        no_new_privileges=True,
    )
    async with start_job(client, spec) as job:
        await _wait_until_ready(job)
        yield


async def _wait_until_ready(job: Job) -> None:
    said = b""
    with anyio.move_on_after(_START_SECONDS), suppress(BoundaryError):
        async for part in job.follow(1):
            said += part
            if b"ready\n" in said:
                return
    message = "the way to the allowlist's proxy could not be opened in the box"
    raise SandboxStartError(message)
