"""Which host names a box may reach. PURE."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from envfarm.errors import SettingsError

_NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PORTS = (80, 443)
_LARGEST_PORT = 65535


@dataclass(frozen=True)
class AllowedHosts:
    """Names and the ports on which they are reached.

    Attributes:
        rules: (name, ports); a name that begins with ``*.`` stands for every name below it, not for itself.
    """

    rules: tuple[tuple[str, tuple[int, ...]], ...]

    def allows(self, host: str, port: int) -> bool:
        """Return whether a host may be reached on a port. Addresses in numbers never are."""
        name = normal_name(host)
        return any(port in ports and _matches(rule, name) for rule, ports in self.rules)


def read_hosts(entries: Iterable[str]) -> AllowedHosts:
    """Return the hosts of entries like ``example.org``, ``*.example.org`` or ``example.org:8443``.

    Without a port an entry stands for 80 and 443.

    Raises:
        SettingsError: One is no host name.
    """
    rules = []
    for entry in entries:
        name, colon, port = entry.strip().rpartition(":")
        name = normal_name(name if colon else entry.strip())
        known = not colon or (port.isdecimal() and 0 < int(port) <= _LARGEST_PORT)
        if not known or not _NAME.fullmatch(name) or len(name) > 253 or _is_number(name):  # noqa: PLR2004 -- of DNS
            message = (
                f"{entry!r} is no host name for an allowlist: write example.org, *.example.org or example.org:8443"
            )
            raise SettingsError(message)
        rules.append((name, (int(port),) if colon else _PORTS))
    return AllowedHosts(tuple(dict.fromkeys(rules)))


def normal_name(host: str) -> str:
    """Return a name as it is compared: small letters, without the root's dot."""
    return host.lower().removesuffix(".")


def _matches(rule: str, name: str) -> bool:
    return name.endswith(rule[1:]) and len(name) > len(rule) - 1 if rule.startswith("*.") else name == rule


def _is_number(name: str) -> bool:
    return name.rpartition(".")[2].isdecimal()


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is one of the public network: none of this machine, its networks or its cloud."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    known = mapped or address
    return known.is_global and not known.is_multicast
