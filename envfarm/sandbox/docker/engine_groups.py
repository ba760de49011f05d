"""What groups of services need of an engine: their networks and volumes, how services are, commands inside them.

As in `engine`, every function blocks and raises errors of `envfarm.errors`.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

from envfarm.errors import BoundaryError
from envfarm.sandbox.docker.container import SERVICE_LABEL
from envfarm.sandbox.docker.engine import Engine
from envfarm.sandbox.docker.engine_errors import api_error

_NO_SUCCESS, _FORBIDDEN, _NOT_FOUND, _CONFLICT = 400, 403, 404, 409
_TOLD_CHARACTERS = 1000
_HEADER_BYTES, _PART_BYTES = 8, 65_536


@dataclass(frozen=True, kw_only=True)
class ServiceState:
    """How the container of a service is.

    Attributes:
        service: The service's name.
        container: Its container.
        status: ``created``, ``running``, ``restarting``, ``exited`` and others of the engine's words.
        exit_code: Of its last end.
        health: ``starting``, ``healthy``, ``unhealthy``, or empty where nobody asks for it.
        told: What its health check said last.
    """

    service: str
    container: str
    status: str
    exit_code: int
    health: str
    told: str


def list_networks(engine: Engine, label: str) -> dict[str, Mapping[str, str]]:
    """Return the labels of networks that have a label, by id."""
    with engine.asked("the list of networks") as api:
        return {item["Id"]: item.get("Labels") or {} for item in api.networks(filters={"label": label})}


def create_network(engine: Engine, name: str, labels: Mapping[str, str], *, is_closed: bool) -> str:
    """Make a network, and return its id; a closed one has no way out, and no address of this machine in it."""
    options = {"com.docker.network.bridge.inhibit_ipv4": "true"} if is_closed else {}
    with engine.asked(f"the network {name}") as api:
        made = api.create_network(name, driver="bridge", internal=is_closed, options=options, labels=dict(labels))
        return str(made["Id"])


def create_volume(engine: Engine, name: str, labels: Mapping[str, str]) -> None:
    """Make a volume on the engine's disk."""
    with engine.asked(f"the volume {name}") as api:
        api.create_volume(name, labels=dict(labels))


def list_volumes(engine: Engine, label: str) -> dict[str, Mapping[str, str]]:
    """Return the labels of volumes that have a label, by name."""
    with engine.asked("the list of volumes") as api:
        found = api.volumes(filters={"label": label}).get("Volumes") or ()
        return {item["Name"]: item.get("Labels") or {} for item in found}


def remove_all(engine: Engine, label: str) -> int:
    """Remove what has a label: containers, then networks and volumes; return how much of it was there.

    What cannot be removed yet stays for the next try.
    """
    containers = list(engine.list_containers(label))
    networks, volumes = list(list_networks(engine, label)), list(list_volumes(engine, label))
    for container in containers:
        with suppress(BoundaryError):
            engine.remove_container(container)
    for network in networks:
        remove_network(engine, network)
    for volume in volumes:
        remove_volume(engine, volume)
    return len(containers) + len(networks) + len(volumes)


def remove_network(engine: Engine, network: str) -> None:
    """Remove a network; one that is gone or in use is no error."""
    with engine.asked("a network", ignored=(_NOT_FOUND, _CONFLICT, _FORBIDDEN)) as api:
        api.remove_network(network)


def remove_volume(engine: Engine, volume: str) -> None:
    """Remove a volume; one that is gone or in use is no error."""
    with engine.asked("a volume", ignored=(_NOT_FOUND, _CONFLICT)) as api:
        api.remove_volume(volume)


def connect_network(engine: Engine, network: str, container: str, aliases: Sequence[str]) -> None:
    """Join a container to one more network."""
    with engine.asked(f"the network {network}") as api:
        api.connect_container_to_network(container, network, aliases=list(aliases))


def gateways_of(engine: Engine, network: str) -> tuple[str, ...]:
    """Return the addresses that an engine keeps for itself in a network."""
    with engine.asked(f"the network {network}") as api:
        configs = (api.inspect_network(network).get("IPAM") or {}).get("Config") or ()
        return tuple(item["Gateway"].partition("/")[0] for item in configs if item.get("Gateway"))


def service_states(engine: Engine, label: str) -> list[ServiceState]:
    """Return how the services of a group are: of those that have a container."""
    found = []
    for container, labels in engine.list_containers(label).items():
        with engine.asked("a service", ignored=(_NOT_FOUND,)) as api:
            state = api.inspect_container(container)["State"]
            health = state.get("Health") or {}
            log = health.get("Log") or ()
            found.append(
                ServiceState(
                    service=labels.get(SERVICE_LABEL, ""),
                    container=container,
                    status=str(state.get("Status")),
                    exit_code=int(state.get("ExitCode") or 0),
                    health=str(health.get("Status") or "").replace("none", ""),
                    told=str(log[-1].get("Output") or "").strip()[-_TOLD_CHARACTERS:] if log else "",
                )
            )
    return found


def end_of_log(engine: Engine, container: str) -> str:
    """Return the last lines that a container printed; empty where nobody knows."""
    told: list[bytes] = []
    with engine.asked("a service's log", ignored=(_NOT_FOUND, _CONFLICT)) as api:
        told.append(api.logs(container, tail=10))
    return b"".join(told)[-_TOLD_CHARACTERS:].decode("utf-8", "replace").strip()


def run_inside(
    engine: Engine, container: str, argv: Sequence[str], user: str, limit_bytes: int
) -> tuple[int, bytes, bytes]:
    """Run a command in a container, and return its exit code and the first bytes of both its streams."""
    what = "a command in a service"
    with engine.asked(what) as api:
        made = api.exec_create(container, list(argv), user=user)["Id"]
        address = f"{api.base_url}/v{api.api_version}/exec/{made}/start"
        # not the SDK's own way, which leaves the connection open and bounds nothing
        with closing(api.post(address, json={"Detach": False, "Tty": False}, stream=True, timeout=None)) as answer:
            if answer.status_code >= _NO_SUCCESS:
                raise api_error(what, answer.status_code, answer.text.strip(), building=False)
            out, err = _separated(answer.iter_content(_PART_BYTES), limit_bytes)
        code = api.exec_inspect(made).get("ExitCode")
    return (-1 if code is None else int(code)), out, err


def _separated(parts: Iterable[bytes], limit_bytes: int) -> tuple[bytes, bytes]:
    """Return the first bytes of both streams of what an engine sends: frames of a kind, a length and data."""
    waiting, kept = bytearray(), {1: bytearray(), 2: bytearray()}
    kind = left = 0
    for part in parts:
        waiting += part
        while waiting and (left or len(waiting) >= _HEADER_BYTES):
            if not left:
                kind, left = waiting[0], int.from_bytes(waiting[4:_HEADER_BYTES], "big")
                del waiting[:_HEADER_BYTES]
            stream = kept[2 if kind == 2 else 1]  # noqa: PLR2004 -- standard error
            stream += waiting[: min(left, max(limit_bytes - len(stream), 0))]
            taken = min(left, len(waiting))
            left -= taken
            del waiting[:taken]
    return bytes(kept[1]), bytes(kept[2])


def archive_of(engine: Engine, container: str, path: str, limit_bytes: int) -> bytes | None:
    """Return a file or folder of a container as an archive; None where there is none.

    Names in it begin with the last part of the path.

    Raises:
        ValueError: The archive is larger than the bound.
    """
    found: list[bytearray] = []
    with engine.asked("files of a service", ignored=(_NOT_FOUND,)) as api:
        parts, _ = api.get_archive(container, path)
        found.append(bytearray())
        for part in parts:
            found[0].extend(part)
            if len(found[0]) > limit_bytes:
                break
        parts.close()
    if found and len(found[0]) > limit_bytes:
        message = f"{path} has more than {limit_bytes} bytes"
        raise ValueError(message)
    return bytes(found[0]) if found else None
