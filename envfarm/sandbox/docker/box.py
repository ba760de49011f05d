"""One container with an agent inside, from its making to its end."""

import os
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import anyio

from envfarm.errors import BoundaryError, SandboxLostError, SandboxStartError
from envfarm.sandbox.allowlist.way_out import open_way_out, prove_sealed
from envfarm.sandbox.client.connection import AgentClient, open_agent
from envfarm.sandbox.client.link import Claim
from envfarm.sandbox.client.roads import UnixRoad
from envfarm.sandbox.client.sandbox import AgentSandbox, BoxSettings
from envfarm.sandbox.contract import LeaseRequest, Network, Privileges
from envfarm.sandbox.docker.compose_file import joined_body, late_services
from envfarm.sandbox.docker.container import AGENT, SOCKET_NAME, ContainerPlan, complete_body
from envfarm.sandbox.docker.engine import ENDED
from envfarm.sandbox.docker.engine_calls import EngineCalls
from envfarm.sandbox.docker.group_sandbox import GroupSandbox, start_command
from envfarm.sandbox.docker.service_group import LiveGroup, open_group
from envfarm.sandbox.owner_mark import owner_mark

LEASE_SECONDS = 90.0
"""A box whose driver is gone ends by itself after as long."""
_START_SECONDS = 60.0
_COPY_SECONDS = 120.0
_LAST_WORDS_SECONDS, _LAST_WORDS_PAUSE_SECONDS = 3.0, 0.05
_ROOT = PurePosixPath("/")


@dataclass(frozen=True, kw_only=True)
class BoxOrder:
    """What a box is made from.

    Attributes:
        plan: The container.
        variables: Of every command.
        request: What was asked for.
    """

    plan: ContainerPlan
    variables: Mapping[str, str]
    request: LeaseRequest

    @property
    def key(self) -> str:
        """Equal for orders that the same box could serve."""
        return self.plan.key

    @property
    def may_stand_ready(self) -> bool:
        """Whether a box may be made before it is asked for: not beside services, nor with folders that it writes."""
        return not self.plan.is_shared and self.request.services is None


@asynccontextmanager
async def open_box(calls: EngineCalls, order: BoxOrder, place: Path) -> AsyncIterator[AgentSandbox]:
    """Make a container for the length of the block; when the block is left nothing runs in it any more.

    The engine removes the container by itself once its first process, the agent, has ended, as the agent also does
    when it has not heard of its driver for `LEASE_SECONDS`.

    Args:
        calls: The engine.
        order: What the box is made from.
        place: Folder of this box alone, which does not exist yet, in its provider's; it is gone afterwards.

    Raises:
        SandboxStartError: It could not be made; nothing is left of it.
    """
    async with AsyncExitStack() as stack:
        group = order.request.services
        live: LiveGroup | None = None
        if group is not None:
            folder = place.with_name(f"{place.name}-services")
            live = await stack.enter_async_context(open_group(calls, order.request, group, folder))
        yield await stack.enter_async_context(_open_container(calls, order, place, live))


@asynccontextmanager
async def _open_container(
    calls: EngineCalls, order: BoxOrder, place: Path, live: LiveGroup | None
) -> AsyncIterator[AgentSandbox]:
    """Make the container itself, which is `main` of a group where there is one."""
    unstarted: str | None = None
    _make_place(place, order.plan.user)
    try:
        body = complete_body(
            order.plan,
            socket_folder=str(place),
            labels=order.request.labels,
            owner=owner_mark(),
            provider=place.parent.name,
        )
        if live is not None:
            body = joined_body(body, live.group, live.place)
        with anyio.CancelScope(shield=True):
            unstarted = container = await calls(calls.engine.create_container, body)
        if live is not None:
            await live.join(container)
        await calls(calls.engine.start_container, container)
        claim = Claim(name=f"driver {os.getpid()}", key=os.urandom(32), lease_seconds=LEASE_SECONDS)
        async with open_agent(UnixRoad(place / SOCKET_NAME), claim, start_seconds=_START_SECONDS) as client:
            explain = partial(_explain_loss, calls, container)
            sandbox = AgentSandbox(client, settings_of(order), explain)
            _close_place(place)
            await _copy_folders(sandbox, order)
            outside = None if live is None else await live.outside()
            async with _network(client, order.request.network, outside):
                if live is not None:
                    sandbox = GroupSandbox(client, settings_of(order), explain, live)
                    await live.wait_for_what_main_waits_for()
                    await start_command(sandbox, live.group.main)
                    await live.start(late_services(live.group))
                    await live.wait_until_ready()
                unstarted = None
                yield sandbox
    finally:
        with anyio.CancelScope(shield=True):
            if unstarted is not None:
                with suppress(BoundaryError):
                    await calls(calls.engine.remove_container, unstarted)
            shutil.rmtree(place, ignore_errors=True)


@asynccontextmanager
async def _network(client: AgentClient, network: Network, outside: Sequence[str] | None) -> AsyncIterator[None]:
    """Prove that a box reaches nothing that it may not, and open the way to what it may; see `prove_sealed`."""
    if network is Network.ALLOWLIST:
        async with open_way_out(client, AGENT, outside):
            yield
        return
    if network is Network.NONE:
        await prove_sealed(client, AGENT, outside)
    yield


def _make_place(place: Path, user: int) -> None:
    try:
        place.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(place, user, user)
    except OSError as error:
        message = f"the folder of a box could not be made: {error}"
        raise SandboxStartError(message) from error


def _close_place(place: Path) -> None:
    """Let nobody write where the agent's socket lies, once it is there; a driver that is no root shares the user."""
    if os.geteuid() == 0:
        os.chown(place, 0, 0)
        place.chmod(0o711)


def settings_of(order: BoxOrder) -> BoxSettings:
    """Return what all commands of the box share."""
    is_root = order.request.privileges is Privileges.ROOT
    return BoxSettings(
        env=order.variables,
        limits=order.request.limits,
        keeps_background=order.request.keeps_background,
        no_new_privileges=not is_root,
    )


async def _copy_folders(sandbox: AgentSandbox, order: BoxOrder) -> None:
    """Fill the places of copy-on-write folders."""
    for source, target in order.plan.copies:
        argv = ["cp", "-a", "--", f"{source}/.", target]
        done = await sandbox.exec(argv, cwd=_ROOT, timeout_seconds=_COPY_SECONDS)
        if done.exit_code != 0:
            told = done.stderr.decode(errors="replace").strip()
            message = f"the folder for {target} could not be copied in the box: {told or 'out of time'}"
            raise SandboxStartError(message, retryable=False)


async def _explain_loss(calls: EngineCalls, container: str, error: SandboxLostError) -> SandboxLostError:
    """Return the error with what the engine knows of the container's end, once it knows that it has ended."""
    why = ""
    with anyio.move_on_after(_LAST_WORDS_SECONDS):
        while ENDED not in why:
            try:
                why = await calls(calls.engine.why_ended, container)
            except BoundaryError as unreachable:
                why = str(unreachable)
                break
            await anyio.sleep(_LAST_WORDS_PAUSE_SECONDS)
    return SandboxLostError(f"{error} ({why})") if why else error
