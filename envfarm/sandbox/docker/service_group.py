"""The services beside one box, from the making of their networks to their end.

Networks and volumes are made here and services by the compose command, from a file of ours (`compose_file`); `main` is
the box itself. Whatever belongs to a group has its label, so its end needs no memory of how far it came.

Not covered, where the driver is no root or the machine's own setting is weaker: datagrams to everybody (broadcast and
multicast) of a closed group come to what listens for them on all addresses of this machine; no answer goes back.
"""

import json
import os
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import anyio
import anyio.to_thread

from envfarm.errors import Attribution, BoundaryError, SandboxLostError, SandboxStartError
from envfarm.formats.new_folder import write_file
from envfarm.sandbox.contract import ExecResult, LeaseRequest, Network
from envfarm.sandbox.docker.compose_command import find_compose, run_compose
from envfarm.sandbox.docker.compose_file import GroupPlace, compose_document, files_of, further_networks, late_services
from envfarm.sandbox.docker.container import GROUP_LABEL, OWNER_LABEL, PROVIDER_LABEL
from envfarm.sandbox.docker.engine_calls import EngineCalls
from envfarm.sandbox.docker.engine_groups import (
    ServiceState,
    archive_of,
    connect_network,
    create_network,
    create_volume,
    end_of_log,
    gateways_of,
    remove_all,
    run_inside,
    service_states,
)
from envfarm.sandbox.owner_mark import owner_mark
from envfarm.sandbox.services import Readiness, ServiceGroup

_END_SECONDS, _END_PAUSE_SECONDS = 60.0, 0.05
_LOOK_SECONDS = 0.1
_MOST_ASKED = 100
"""Addresses that the probe of a box takes."""
_OWN_ADDRESSES = Path("/proc/net/fib_trie")
_STRICT = "/proc/sys/net/ipv4/conf/br-{}/rp_filter"
_BRIDGE_LETTERS = 12
"""Of a network's id in the name of its bridge."""
_GOOD = frozenset({"", "healthy"})


@dataclass(frozen=True, kw_only=True)
class LiveGroup:
    """A group that runs.

    Attributes:
        calls: The engine.
        group: What was asked for.
        place: What is its own.
        program: The compose command.
        folder: Its folder, on this machine.
        ends_at: By anyio's clock, until when all has to be ready.
    """

    calls: EngineCalls
    group: ServiceGroup
    place: GroupPlace
    program: str
    folder: Path
    ends_at: float

    @property
    def label(self) -> str:
        """By which all of it is found."""
        return f"{GROUP_LABEL}={self.place.project}"

    async def start(self, services: frozenset[str]) -> None:
        """Start some of its services, each behind those that it waits for.

        Raises:
            SandboxStartError: One does not start.
        """
        if not services:
            return
        words = ["--project-name", self.place.project, "-f", str(self.folder / "compose.json"), "up", "-d"]
        words += ["--no-build", "--no-recreate", *sorted(services)]
        variables = {"DOCKER_HOST": os.environ["DOCKER_HOST"]} if "DOCKER_HOST" in os.environ else {}
        seconds = max(self.ends_at - anyio.current_time(), 0.0)
        end = await run_compose(self.program, words, self.folder, variables, timeout_seconds=seconds)
        if end.exit_code == 0:
            return
        for state in await self.calls(service_states, self.calls.engine, self.label):
            await self._refuse_failed(state)
        if end.timed_out:
            raise self._too_slow(services)
        how = end.told or "the compose command was killed"
        message = f"the task's services could not be started: {how}"
        raise SandboxStartError(message, retryable=False)

    async def join(self, container: str) -> None:
        """Join `main` to the networks beside its first one."""
        for network, names in further_networks(self.group, self.place).items():
            await self.calls(connect_network, self.calls.engine, network, container, names)

    async def wait_until_ready(self) -> None:
        """Return once every service that is asked for its health is healthy, and every other one has started.

        Raises:
            SandboxStartError: One is not, or not in time.
        """
        await self._wait_for({service.name: Readiness.HEALTHY for service in (self.group.main, *self.group.others)})

    async def wait_for_what_main_waits_for(self) -> None:
        """Return once the services that `main` depends on are as far as it wants them; raises as `wait_until_ready`."""
        await self._wait_for(self.group.main.waits_for)

    async def _wait_for(self, wanted: Mapping[str, Readiness]) -> None:
        waiting = set(wanted)
        with anyio.CancelScope(deadline=self.ends_at):
            while waiting:
                states = await self.calls(service_states, self.calls.engine, self.label)
                for state in states:
                    await self._refuse_failed(state)
                there = {state.service for state in states if _is_as_far(state, wanted.get(state.service))}
                waiting = set(wanted) - there
                if waiting:
                    await anyio.sleep(_LOOK_SECONDS)
            return
        raise self._too_slow(waiting)

    async def outside(self) -> tuple[str, ...]:
        """Return addresses that nobody of the group may reach where it is closed: this machine's, and of its engine."""
        found: list[str] = []
        for name in self.group.networks:
            found += await self.calls(gateways_of, self.calls.engine, self.place.full_name(name))
        found += await anyio.to_thread.run_sync(addresses_of_machine)
        return tuple(dict.fromkeys(found))[:_MOST_ASKED]

    async def run_inside(
        self, service: str, argv: Sequence[str], *, user: str | None, timeout_seconds: float, limit_bytes: int
    ) -> ExecResult:
        """Run a command in a service; see `ReachesServices`."""
        state = await self._state_of(service)
        arguments = (self.calls.engine, state.container, argv, user or "", limit_bytes)
        with anyio.move_on_after(timeout_seconds):
            code, out, err = await anyio.to_thread.run_sync(run_inside, *arguments, abandon_on_cancel=True)
            return ExecResult(exit_code=code, stdout=out, stderr=err)
        return ExecResult(exit_code=None, signal=9, timed_out=True)

    async def archive_of(self, service: str, path: PurePosixPath, limit_bytes: int) -> bytes | None:
        """Return files of a service; see `ReachesServices`."""
        state = await self._state_of(service)
        return await self.calls(archive_of, self.calls.engine, state.container, str(path), limit_bytes)

    async def _state_of(self, service: str) -> ServiceState:
        for state in await self.calls(service_states, self.calls.engine, self.label):
            if state.service == service:
                return state
        message = f"the service {service} is gone"
        raise SandboxLostError(message)

    async def _refuse_failed(self, state: ServiceState) -> None:
        if state.health == "unhealthy":
            message = f"the service {state.service} is unhealthy: {state.told or 'its check says nothing'}"
            raise SandboxStartError(message, attribution=Attribution.TASK)
        if state.status in {"exited", "dead"} and state.exit_code != 0 and state.service != self.group.main.name:
            told = await self.calls(end_of_log, self.calls.engine, state.container)
            message = f"the service {state.service} ended with {state.exit_code}: {told or 'it printed nothing'}"
            raise SandboxStartError(message, attribution=Attribution.TASK)

    def _too_slow(self, services: frozenset[str] | set[str]) -> SandboxStartError:
        message = f"not ready within {self.group.start_seconds:g} s: the service {', '.join(sorted(services))}"
        return SandboxStartError(message, attribution=Attribution.TASK)


@asynccontextmanager
async def open_group(
    calls: EngineCalls, request: LeaseRequest, group: ServiceGroup, folder: Path
) -> AsyncIterator[LiveGroup]:
    """Start a group's services but those that wait for `main`; nothing of them is left when the block is.

    Args:
        calls: The engine.
        request: The lease that asks for it.
        group: What it asks for.
        folder: Folder of this group alone, which does not exist yet, in its provider's; it is gone afterwards.

    Raises:
        MissingToolError: There is no compose command.
        SandboxStartError: A service does not start.
    """
    program = find_compose("a task with services")
    project = f"envfarm-{os.urandom(6).hex()}"
    place = GroupPlace(
        project=project,
        folder=str(folder / "files"),
        is_closed=request.network is not Network.PUBLIC,
        has_ipv6=Path("/proc/sys/net/ipv6").is_dir(),
        limits=request.limits,
        labels={OWNER_LABEL: owner_mark(), PROVIDER_LABEL: folder.parent.name, GROUP_LABEL: project},
    )
    ends_at = anyio.current_time() + group.start_seconds
    live = LiveGroup(calls=calls, group=group, place=place, program=program, folder=folder, ends_at=ends_at)
    try:
        await anyio.to_thread.run_sync(_write_files, folder, compose_document(group, place), group, place)
        for name, is_closed in sorted(group.networks.items()):
            await _create_network(live, name, is_closed=is_closed or place.is_closed)
        for name in group.volumes:
            await calls(create_volume, calls.engine, place.full_name(name), place.labels)
        await live.start(frozenset(service.name for service in group.others) - late_services(group))
        yield live
    finally:
        with anyio.CancelScope(shield=True):
            await _end(calls, live.label)
            shutil.rmtree(folder, ignore_errors=True)


async def _create_network(live: LiveGroup, name: str, *, is_closed: bool) -> None:
    engine, labels = live.calls.engine, live.place.labels

    def create() -> None:
        network = create_network(engine, live.place.full_name(name), labels, is_closed=is_closed)
        if is_closed:
            refuse_datagrams(network)

    await live.calls(create)
    if is_closed:
        await _refuse_shared(live, name)


def refuse_datagrams(network: str) -> None:
    """Have this machine's kernel drop what comes from a closed network: datagrams to everybody come without a route.

    The machine has no way back to the network, which is what the kernel then asks for. Only root may say so.
    """
    with suppress(OSError):
        Path(_STRICT.format(network[:_BRIDGE_LETTERS])).write_text("1")


async def _refuse_shared(live: LiveGroup, name: str) -> None:
    """Refuse a closed network in which this machine has an address, as an engine of old may give it."""
    gateways = await live.calls(gateways_of, live.calls.engine, live.place.full_name(name))
    shared = set(gateways) & set(await anyio.to_thread.run_sync(addresses_of_machine))
    if shared:
        message = f"the Docker daemon gives a closed network this machine's address {min(shared)}: take a newer one"
        raise SandboxStartError(message, retryable=False)


def _write_files(folder: Path, document: Mapping[str, Any], group: ServiceGroup, place: GroupPlace) -> None:
    try:
        folder.mkdir(mode=0o700)
        (folder / "compose.json").write_text(json.dumps(document))
        for target, files in files_of(group, place).items():
            for path, content in files.content.items():
                write_file(Path(target) / path if path else Path(target), content, executable=path in files.programs)
        for place_below in Path(place.folder).rglob("*"):
            if place_below.is_dir():
                place_below.chmod(0o755)
    except OSError as error:
        message = f"the files of services could not be written: {error}"
        raise SandboxStartError(message) from error


async def _end(calls: EngineCalls, label: str) -> None:
    """Remove a group; what the engine was still making when its client was killed comes a moment later."""
    with suppress(BoundaryError), anyio.move_on_after(_END_SECONDS):
        while await calls(remove_all, calls.engine, label):  # noqa: ASYNC110 -- nobody tells us
            await anyio.sleep(_END_PAUSE_SECONDS)


def _is_as_far(state: ServiceState, wanted: Readiness | None) -> bool:
    """Say whether a service is as far as another one wants it; one without a check is healthy once it runs."""
    if wanted is Readiness.ENDED:
        return state.status == "exited" and state.exit_code == 0
    if wanted is Readiness.STARTED:
        return state.status != "created"
    return (state.status == "running" and state.health in _GOOD) or (state.status == "exited" and state.exit_code == 0)


def addresses_of_machine() -> tuple[str, ...]:
    """Return this machine's addresses but those of its loopback, as its kernel has them."""
    found: list[str] = []
    last = ""
    for line in _OWN_ADDRESSES.read_text().splitlines() if _OWN_ADDRESSES.exists() else ():
        if "|--" in line:
            last = line.split()[-1]
        elif "/32 host LOCAL" in line and not last.startswith("127."):
            found.append(last)
    return tuple(dict.fromkeys(found))
