"""The jail of one lease: one that runs already where there is one, bounded and shown what the lease asks for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from anyio.abc import TaskGroup

from envfarm.records.image import FolderAccess
from envfarm.sandbox.allowlist.way_out import VARIABLES, open_way_out
from envfarm.sandbox.box_variables import base_variables
from envfarm.sandbox.client.connection import AgentClient
from envfarm.sandbox.client.sandbox import AgentSandbox, BoxSettings
from envfarm.sandbox.contract import LeaseRequest, Network
from envfarm.sandbox.local.base_jail import BaseJail, BaseJailMaker, require_folders
from envfarm.sandbox.local.box_plan import BaseWish, plan_box
from envfarm.sandbox.local.cgroups import ControlGroups
from envfarm.sandbox.local.host_facts import AGENT, HostFacts
from envfarm.sandbox.local.lease import LocalSandbox
from envfarm.sandbox.warm_pool import WarmPool

_STANDING_READY = 1


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
    """Makes the jails of leases, with one jail standing ready that can become nearly any."""

    def __init__(self, group: TaskGroup, makes: BaseJailMaker, box: str, facts: HostFacts) -> None:
        """Take the task group that holds what stands ready, what makes it, and what is known of the host."""
        self._box = box
        self._facts = facts
        self._bases: WarmPool[BaseWish, BaseJail] = WarmPool(group, makes.open, _STANDING_READY)

    def begin(self) -> None:
        """Have a jail stand ready, soon."""
        self._bases.refill(BaseWish())

    async def end(self) -> None:
        """End what stands ready."""
        await self._bases.end()

    @asynccontextmanager
    async def open(self, order: JailOrder) -> AsyncIterator[AgentSandbox]:
        """Give a jail for the length of the block.

        Raises:
            SandboxStartError: It could not be made; nothing is left of it.
            MissingToolError: This machine forbids what it needs.
        """
        request = order.request
        plan = plan_box(request, self._facts, self._box, order.proxy_folder)
        require_folders(item.source for item in plan.shown if not item.source.startswith(self._box))
        async with self._bases.lease(plan.base) as jail:
            await jail.fill(request.limits, plan.shown)
            async with _network(jail.client, request.network):
                yield LocalSandbox(jail.client, _settings_of(request, jail.groups), jail.channel, jail.groups)


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
