"""The docker provider: leases containers of the Docker daemon of this machine, through the agent inside each."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from os import geteuid
from pathlib import Path

import anyio
import anyio.to_thread

from envfarm.errors import BoundaryError, MissingToolError, SandboxStartError
from envfarm.sandbox.agent.programs import agent_program
from envfarm.sandbox.allowlist.way_out import VARIABLES, AllowlistProxies
from envfarm.sandbox.box_variables import HOSTS, base_variables
from envfarm.sandbox.client.sandbox import AgentSandbox
from envfarm.sandbox.contract import LeaseRequest, Network, Privileges, Sandbox
from envfarm.sandbox.docker.base_image import find_base
from envfarm.sandbox.docker.box import BoxOrder, EngineCalls, open_box
from envfarm.sandbox.docker.container import DriverFacts, plan_container
from envfarm.sandbox.docker.engine import Engine, ImageFacts, open_engine
from envfarm.sandbox.docker.leftovers import containers_of, remove_leftovers
from envfarm.sandbox.docker.options import DockerOptions, read_options
from envfarm.sandbox.one_error import as_raised
from envfarm.sandbox.owner_mark import owner_mark
from envfarm.sandbox.warm_pool import WarmPool

FOLDER_PREFIX = "envfarm-docker-"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- what a box writes to its socket's folder is charged to its memory there
_REMOVAL_SECONDS, _REMOVAL_PAUSE_SECONDS = 30.0, 0.02


def folders_place() -> Path:
    """Return where the folders of sockets lie: in memory, so that no box fills a disk through them."""
    return _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir())


@asynccontextmanager
async def open_docker_provider(options: Mapping[str, object]) -> AsyncIterator["DockerProvider"]:
    """Open the docker provider; with the block all its containers end.

    Raises:
        SettingsError: An option is unknown.
        MissingToolError: There is no daemon, this user may not use it, or it maps users.
    """
    chosen = read_options(options)
    with open_engine() as engine:
        await anyio.to_thread.run_sync(refuse_mapped_users, engine)
        await anyio.to_thread.run_sync(remove_leftovers, engine, folders_place(), FOLDER_PREFIX)
        folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{owner_mark()}", dir=folders_place()))
        folder.chmod(0o711)
        try:
            async with as_raised(), anyio.create_task_group() as group:
                provider = DockerProvider(engine, folder, chosen, group)
                try:
                    yield provider
                finally:
                    await provider.end()
            with anyio.CancelScope(shield=True):
                await _wait_until_removed(engine, folder.name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def _wait_until_removed(engine: Engine, provider: str) -> None:
    """Wait until the engine has removed a provider's containers; those that do not end by themselves are killed."""
    with suppress(BoundaryError), anyio.move_on_after(_REMOVAL_SECONDS):
        while await anyio.to_thread.run_sync(containers_of, engine, provider):  # noqa: ASYNC110 -- nobody tells us
            await anyio.sleep(_REMOVAL_PAUSE_SECONDS)
        return
    with suppress(BoundaryError):
        for container in await anyio.to_thread.run_sync(containers_of, engine, provider):
            await anyio.to_thread.run_sync(engine.remove_container, container)


class DockerProvider:
    """Leases containers; use `open_docker_provider`."""

    shares_one_disk = False
    """Each place that can be written has the bound on disk by itself."""

    def __init__(self, engine: Engine, folder: Path, options: DockerOptions, group: anyio.abc.TaskGroup) -> None:
        """Take the engine, the folder of sockets, the options, and the task group that holds all boxes."""
        self.engine = engine
        self._calls = EngineCalls(engine)
        self._folder = folder
        hosts_file = folder / "hosts"
        hosts_file.write_text(HOSTS)
        hosts_file.chmod(0o644)
        self._facts = DriverFacts(
            uid=geteuid(),
            agent_program=str(agent_program()),
            hosts_file=str(hosts_file),
            can_bound_layers=can_bound_layers(engine),
        )
        self._options = options
        self._images: dict[str, ImageFacts] = {}
        self._boxes = 0
        self._proxies = AllowlistProxies(group, folder, options.pins)
        self.pool = WarmPool(group, self._open, options.warm_boxes)

    @property
    def name(self) -> str:
        """The entry-point name."""
        return "docker"

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Sandbox]:
        """Give a fresh container for the length of the block; see the contract."""
        order = await self._order(request)
        async with self.pool.lease(order) as box:
            if request.privileges is Privileges.ROOT:
                facts = await self._calls(self.engine.image_facts, order.plan.image)
                yield await box.as_user(facts.user or "0")
            else:
                yield box

    async def end(self) -> None:
        """End what stands ready; only the block of `open_docker_provider` does so."""
        await self.pool.end()
        self._proxies.end()

    async def prepare(self, request: LeaseRequest, count: int) -> None:
        """Have boxes stand ready for a request; see `PreparesSandboxes`."""
        await self.pool.prepare(await self._order(request), count)

    @asynccontextmanager
    async def _open(self, order: BoxOrder) -> AsyncIterator[AgentSandbox]:
        self._boxes += 1
        async with open_box(self._calls, order, self._folder / str(self._boxes)) as sandbox:
            yield sandbox

    async def _order(self, request: LeaseRequest) -> BoxOrder:
        proxy_folder = None
        if request.network is Network.ALLOWLIST:
            proxy_folder = await self._proxies.folder_for(request.allowed_hosts)
        for folder in request.image.folders + request.folders:
            if not Path(folder.source).exists():
                message = f"the folder {folder.source} for {folder.target} does not exist"
                raise SandboxStartError(message, retryable=False)
        image = request.image.reference
        if image is None:
            image = await anyio.to_thread.run_sync(find_base, self.engine, self._options.base)
        if image not in self._images:
            self._images[image] = await self._calls(self.engine.image_facts, image)
        facts = self._images[image]
        plan = plan_container(
            request,
            self._facts,
            image=image,
            proxy_folder=None if proxy_folder is None else str(proxy_folder),
            volumes=facts.volumes,
        )
        proxy = VARIABLES if proxy_folder is not None else {}
        own = {**proxy, **request.image.environment_variables}
        variables = {**facts.variables, **own}
        if request.image.reference is None:
            variables = base_variables(own)
        return BoxOrder(plan=plan, variables=variables, request=request)


def refuse_mapped_users(engine: Engine) -> None:
    """Refuse an engine whose boxes have other users than this machine, since boxes share folders with the driver.

    Raises:
        MissingToolError: It maps users.
    """
    named = {str(option).partition(",")[0] for option in engine.facts().get("SecurityOptions") or ()}
    found = sorted(named & {"name=userns", "name=rootless"})
    if found:
        message = (
            f"the Docker daemon maps users ({found[0].removeprefix('name=')}), so boxes and driver cannot share "
            "folders: point DOCKER_HOST at one without userns-remap that is not rootless, or use --sandbox local"
        )
        raise MissingToolError(message)


def can_bound_layers(engine: Engine) -> bool:
    """Return whether the engine can bound what a container writes to its own layer."""
    facts = engine.facts()
    if facts.get("Driver") in {"btrfs", "zfs"}:
        return True
    root = str(facts.get("DockerRootDir") or "/")
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    mounts = [row for row in rows if Path(root).is_relative_to(row[1])]
    nearest = max(mounts, key=lambda row: len(row[1]), default=None)
    if facts.get("Driver") != "overlay2" or nearest is None or nearest[2] != "xfs":
        return False
    return bool({"prjquota", "pquota"} & set(nearest[3].split(",")))
