"""A group of services as the docker-compose file that is run, and as what it adds to its box's body. PURE.

Covered: each service has labels by which it is found, bounds on memory (swap included), processes and log, no new
privileges, no raw packets and no devices to make; it is in the group's own networks alone, no port of it is published,
and it comes back after failures a few times only, never with the engine. In a closed network no resolver is asked but
for the group's own names.

Not covered: root of a service is root of its container, with the engine's other capabilities; nothing bounds what
services write to their layers and volumes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from envfarm.sandbox.contract import Limits
from envfarm.sandbox.docker.container import SERVICE_LABEL
from envfarm.sandbox.services import ReadOnlyFiles, Service, ServiceCheck, ServiceGroup

_NO_RESOLVER = "127.0.0.1"
"""Engines of old forward names of closed networks by themselves, unless the resolver is an address of the box."""
_NO_IPV6 = "net.ipv6.conf.all.disable_ipv6"
_DROPPED = ("MKNOD", "NET_RAW")
_TRIES = 5
_BILLION = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class GroupPlace:
    """What is a group's own.

    Attributes:
        project: Its name at the engine.
        labels: Of all that belongs to it.
        folder: Where its files lie on this machine.
        is_closed: Whether all its networks are closed.
        has_ipv6: Whether this machine knows IPv6.
        limits: Bounds on a service that has none of its own.
    """

    project: str
    folder: str
    is_closed: bool
    has_ipv6: bool
    limits: Limits
    labels: Mapping[str, str] = field(default_factory=dict)

    def full_name(self, name: str) -> str:
        """Return the name of a network or volume at the engine."""
        return f"{self.project}_{name}"

    def files_at(self, service: str, number: int) -> str:
        """Return where the files of a service lie on this machine."""
        return f"{self.folder}/{service}-{number}"


def compose_document(group: ServiceGroup, place: GroupPlace) -> dict[str, Any]:
    """Return the compose file of a group's services, `main` left out, as a value that JSON knows."""
    document = {
        "services": {service.name: _service(service, group, place) for service in group.others},
        "networks": {name: {"name": place.full_name(name), "external": True} for name in group.networks},
        "volumes": {name: {"name": place.full_name(name), "external": True} for name in group.volumes},
    }
    escaped: dict[str, Any] = _escaped({name: table for name, table in document.items() if table})
    return escaped


def late_services(group: ServiceGroup) -> frozenset[str]:
    """Return the services that start when `main` has: those that wait for it, and those that wait for them."""
    late: set[str] = {group.main.name}
    while more := {item.name for item in group.others if late & item.waits_for.keys()} - late:
        late |= more
    return frozenset(late - {group.main.name})


def joined_body(body: Mapping[str, Any], group: ServiceGroup, place: GroupPlace) -> dict[str, Any]:
    """Return the body of a box's container as one that is `main` of a group; it begins in the first of its networks."""
    main, host = group.main, dict(body["HostConfig"])
    first, names = next(iter(sorted(main.networks.items())))
    network = place.full_name(first)
    mounts = [
        *host["Mounts"],
        *(_mount(mount.volume, mount.target, place, mount.is_read_only) for mount in main.volumes),
    ]
    for number, files in enumerate(main.files):
        source = place.files_at(main.name, number)
        mounts.append({"Type": "bind", "Source": source, "Target": files.target, "ReadOnly": True})
    tmpfs = dict(entry.partition(":")[::2] for entry in main.tmpfs)
    host |= {"NetworkMode": network, "Mounts": mounts, "Tmpfs": {**host["Tmpfs"], **tmpfs}}
    host["ExtraHosts"] = [f"{name}:{address}" for name, address in main.hosts.items()]
    host["CapDrop"] = host.get("CapDrop") or sorted(
        {*main.dropped_capabilities, *(_DROPPED if place.is_closed else ())}
    )
    limits = main.bounds.ulimits.items()
    host["Ulimits"] = [{"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in limits]
    if main.bounds.shared_memory_bytes is not None:
        host["ShmSize"] = main.bounds.shared_memory_bytes
    if place.is_closed:
        host |= {"Dns": [_NO_RESOLVER], "Sysctls": {_NO_IPV6: "1"} if place.has_ipv6 else {}}
    return {
        **body,
        "HostConfig": host,
        "Hostname": main.hostname or body["Hostname"],
        "Labels": {**body["Labels"], **place.labels, SERVICE_LABEL: main.name},
        "NetworkingConfig": {"EndpointsConfig": {network: {"Aliases": [main.name, *names]}}},
        **({} if main.check is None else _checked(main, main.check)),
    }


def further_networks(group: ServiceGroup, place: GroupPlace) -> dict[str, tuple[str, ...]]:
    """Return the names of `main` in the networks that it has to be joined to beside its first one."""
    further = sorted(group.main.networks.items())[1:]
    return {place.full_name(network): (group.main.name, *names) for network, names in further}


def _mount(volume: str, target: str, place: GroupPlace, is_read_only: bool) -> dict[str, Any]:  # noqa: FBT001 -- a row
    source = {"Source": place.full_name(volume)} if volume else {}
    return {"Type": "volume", **source, "Target": target, "ReadOnly": is_read_only}


def _service(service: Service, group: ServiceGroup, place: GroupPlace) -> dict[str, Any]:
    bounds, limits = service.bounds, place.limits
    memory = bounds.memory_bytes or limits.memory_bytes
    cores = bounds.cpu_cores or limits.cpu_cores
    table: dict[str, Any] = {
        "image": service.image,
        "pull_policy": "never",
        "environment": dict(service.env),
        "networks": {name: {"aliases": list(names)} if names else {} for name, names in service.networks.items()},
        "labels": {**place.labels, SERVICE_LABEL: service.name},
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": bounds.process_count or limits.process_count,
        "cap_drop": sorted({*service.dropped_capabilities, *_DROPPED}),
        "security_opt": ["no-new-privileges:true"],
        "restart": f"on-failure:{_TRIES}" if service.retries_failures else "no",
        "logging": {"driver": "json-file", "options": {"max-size": "1m", "max-file": "1"}},
        **({"command": list(service.command)} if service.command is not None else {}),
        **({"entrypoint": list(service.entrypoint)} if service.entrypoint is not None else {}),
        **({"cpus": cores} if cores is not None else {}),
    }
    optional = {
        "user": service.user,
        "working_dir": service.working_directory,
        "hostname": service.hostname,
        "stop_signal": service.stop_signal,
        "shm_size": bounds.shared_memory_bytes,
        "init": service.has_init,
        "read_only": service.has_read_only_root,
        "stdin_open": service.keeps_stdin,
        "tty": service.has_terminal,
        "tmpfs": list(service.tmpfs),
        "extra_hosts": [f"{name}:{address}" for name, address in service.hosts.items()],
        "ulimits": {name: {"soft": soft, "hard": hard} for name, (soft, hard) in bounds.ulimits.items()},
        "volumes": _volumes(service, place),
        "healthcheck": _check(service.check),
        "depends_on": {
            name: {"condition": readiness.value}
            for name, readiness in service.waits_for.items()
            if name != group.main.name
        },
    }
    if place.is_closed:
        optional |= {"dns": [_NO_RESOLVER], "sysctls": {_NO_IPV6: "1"} if place.has_ipv6 else {}}
    return {**table, **{key: value for key, value in optional.items() if value}}


def _volumes(service: Service, place: GroupPlace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for mount in service.volumes:
        source = {"source": mount.volume} if mount.volume else {}
        found.append({"type": "volume", **source, "target": mount.target, "read_only": mount.is_read_only})
    for number, files in enumerate(service.files):
        source = {"source": place.files_at(service.name, number)}
        found.append({"type": "bind", **source, "target": files.target, "read_only": True})
    return found


def _check(check: ServiceCheck | None) -> dict[str, Any]:
    if check is None:
        return {}
    if check.test[:1] == ("NONE",):
        return {"disable": True}
    times = {
        "interval": check.interval_seconds,
        "timeout": check.timeout_seconds,
        "start_period": check.start_period_seconds,
    }
    told: dict[str, Any] = {name: f"{seconds * 1000:.0f}ms" for name, seconds in times.items() if seconds is not None}
    told |= {"retries": check.retries} if check.retries is not None else {}
    return {**told, "test": list(check.test)} if check.test else told


def _checked(main: Service, check: ServiceCheck) -> dict[str, Any]:
    """Return what the engine needs to ask for the health of `main`; it asks as the box's first user."""
    env = [f"{name}={value}" for name, value in main.env.items()]
    return {"Healthcheck": _engine_check(check), "Env": env, "WorkingDir": main.working_directory or "/"}


def _engine_check(check: ServiceCheck) -> dict[str, Any]:
    times = {
        "Interval": check.interval_seconds,
        "Timeout": check.timeout_seconds,
        "StartPeriod": check.start_period_seconds,
    }
    told: dict[str, Any] = {name: int(seconds * _BILLION) for name, seconds in times.items() if seconds is not None}
    return {**told, "Test": list(check.test), "Retries": check.retries or 0}


def files_of(group: ServiceGroup, place: GroupPlace) -> dict[str, ReadOnlyFiles]:
    """Return what has to lie where on this machine before the group starts."""
    return {
        place.files_at(service.name, number): files
        for service in (group.main, *group.others)
        for number, files in enumerate(service.files)
    }


def _escaped(value: Any) -> Any:
    """Return a value whose dollar signs are no variables for a compose command."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value
