"""The keys of a service in a docker-compose file: which are known, and how the value of each is read. PURE."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from envfarm.foreign.compose_values import (
    bytes_of,
    cores_of,
    count_of,
    flag_of,
    list_of,
    mapping_of,
    place_of,
    seconds_of,
    text_of,
    tmpfs_of,
    ulimits_of,
    variables_of,
    words_of,
)
from envfarm.sandbox.services import Readiness, ServiceCheck

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")
DROPPED = frozenset(
    {"annotations", "attach", "cpu_shares", "develop", "expose", "labels", "mem_reservation", "memswap_limit"}
    | {"ports", "profiles", "pull_policy", "stop_grace_period"}
)
SIMPLE: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "command": ("command", words_of),
    "entrypoint": ("entrypoint", words_of),
    "environment": ("env", variables_of),
    "hostname": ("hostname", text_of),
    "user": ("user", text_of),
    "working_dir": ("working_directory", place_of),
    "stop_signal": ("stop_signal", text_of),
    "init": ("has_init", flag_of),
    "read_only": ("has_read_only_root", flag_of),
    "stdin_open": ("keeps_stdin", flag_of),
    "tty": ("has_terminal", flag_of),
    "tmpfs": ("tmpfs", lambda value: tuple(tmpfs_of(item) for item in list_of(value))),
    "cap_drop": ("dropped_capabilities", lambda value: tuple(text_of(item) for item in list_of(value))),
    "restart": ("retries_failures", lambda value: text_of(value) != "no"),
}
BOUNDS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "mem_limit": ("memory_bytes", bytes_of),
    "cpus": ("cpu_cores", cores_of),
    "pids_limit": ("process_count", count_of),
    "shm_size": ("shared_memory_bytes", bytes_of),
    "ulimits": ("ulimits", ulimits_of),
}
_DEPLOYED = {"memory": "mem_limit", "cpus": "cpus", "pids": "pids_limit"}
READ_ELSEWHERE = frozenset({"build", "container_name", "env_file", "image", "networks", "volumes"})


class RefusalError(ValueError):
    """A sentence that begins with a place in the file."""


def checked_name(name: str, place: str) -> str:
    """Return a name of the file's own.

    Raises:
        RefusalError: It is none that an engine takes.
    """
    if not _NAME.fullmatch(name):
        message = f"{place}: {name[:80]!r} is no name"
        raise RefusalError(message)
    return name


def read_value(place: str, read: Callable[[Any], Any], value: Any) -> Any:
    """Return the value at a place of the file.

    Raises:
        RefusalError: It is not what `read` reads.
    """
    try:
        return read(value)
    except RefusalError:
        raise
    except ValueError as error:
        message = f"{place}: it {error}"
        raise RefusalError(message) from error


def _waits_for(value: Any) -> dict[str, Readiness]:
    found = {}
    for name, item in mapping_of(value).items():
        condition = mapping_of(item).get("condition") or Readiness.STARTED
        if condition not in list(Readiness):
            message = f"is {condition!r} for {name}, which is no condition"
            raise ValueError(message)
        found[name] = Readiness(condition)
    return found


def _check(value: Any) -> ServiceCheck:
    table = {key: item for key, item in mapping_of(value).items() if item is not None}
    unknown = table.keys() - {"test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"}
    if unknown:
        message = f"has {min(unknown)}, which is not given here"
        raise ValueError(message)
    test = table.get("test")
    words = ("CMD-SHELL", test) if isinstance(test, str) else tuple(text_of(item) for item in list_of(test))
    if table.get("disable") is True:
        words = ("NONE",)
    if words and words[0] not in {"CMD", "CMD-SHELL", "NONE"}:
        message = "begins with none of CMD, CMD-SHELL and NONE"
        raise ValueError(message)
    times = {key: seconds_of(table[key]) if key in table else None for key in ("interval", "timeout", "start_period")}
    return ServiceCheck(
        test=words,
        interval_seconds=times["interval"],
        timeout_seconds=times["timeout"],
        start_period_seconds=times["start_period"],
        retries=count_of(table["retries"]) if "retries" in table else None,
    )


def _hosts(value: Any) -> dict[str, str]:
    entries = [f"{name}={item}" for name, item in value.items()] if isinstance(value, dict) else list_of(value)
    found = {}
    for entry in entries:
        name, mark, address = text_of(entry).partition("=" if "=" in str(entry) else ":")
        try:
            found[checked_name(name, "extra_hosts")] = str(ipaddress.ip_address(address.strip("[]")))
        except ValueError as error:
            message = f"is {entry!r}, and only addresses are given names here"
            raise ValueError(message) from (error if mark else None)
    return found


def deployed_bounds(place: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return bounds of a deployment by the names that they have outside of one."""
    resources = mapping_of(table.get("resources"))
    limits, reserved = mapping_of(resources.get("limits")), mapping_of(resources.get("reservations"))
    unknown = [key for key in table.keys() - {"resources", "replicas", "restart_policy"} if table[key]]
    unknown += [f"resources.{key}" for key in resources.keys() - {"limits", "reservations"}]
    unknown += [f"resources.limits.{key}" for key in limits.keys() - _DEPLOYED.keys()]
    unknown += [f"resources.reservations.{key}" for key in reserved.keys() - {"cpus", "memory"}]
    unknown += ["replicas"] if table.get("replicas", 1) != 1 else []
    if unknown:
        message = f"{place}.{min(unknown)}: it is not given here"
        raise RefusalError(message)
    return {_DEPLOYED[key]: value for key, value in limits.items() if value}


def linked_service(place: str, link: Any) -> str:
    """Return the service that a link leads to.

    Raises:
        RefusalError: It has another name there.
    """
    name, _, alias = text_of(link).partition(":")
    if alias and alias != name:
        message = f"{place}.links: {link!r} names a service otherwise: use aliases of its networks"
        raise RefusalError(message)
    return name


def _log_driver(value: Any) -> None:
    if mapping_of(value).get("driver") not in (None, "json-file", "local", "none"):
        message = "names a driver that is not given here"
        raise ValueError(message)


def _security(value: Any) -> None:
    if {str(item).replace("=", ":") for item in list_of(value)} - {"no-new-privileges", "no-new-privileges:true"}:
        message = "asks for more than no-new-privileges"
        raise ValueError(message)


def _one(value: Any) -> None:
    if value != 1:
        message = "is not 1"
        raise ValueError(message)


def _platform(value: Any) -> None:
    if value not in ("linux/amd64", "linux/x86_64", "linux"):
        message = f"is {value!r}, and boxes are this machine's"
        raise ValueError(message)


SPECIAL: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "depends_on": ("waits_for", _waits_for),
    "healthcheck": ("check", _check),
    "extra_hosts": ("hosts", _hosts),
}
CHECKS: Mapping[str, Callable[[Any], None]] = {
    "logging": _log_driver,
    "security_opt": _security,
    "scale": _one,
    "platform": _platform,
}
