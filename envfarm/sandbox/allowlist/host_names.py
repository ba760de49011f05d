"""Which host names a box may reach. PURE."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from envfarm.errors import SettingsError

_NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PORTS = (80, 443)
_LARGEST_PORT = 65535
_LONGEST_NAME = 253
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_TRANSLATED = IPv6Network("64:ff9b::/96")
"""Leads to the IPv4 address in its last 32 bits, where a network translates (RFC 6052)."""
_NOT_PUBLIC = (
    IPv4Network("168.63.129.16/32"),  # a cloud's service for its machines, at an address that looks public
    IPv4Network("192.88.99.0/24"),
    IPv6Network("2002::/16"),  # leads to any IPv4 address (RFC 3056), private ones too
    IPv6Network("3fff::/20"),
)


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
        if not known or not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME or _is_number(name):
            message = (
                f"{entry!r} is no host name for an allowlist: write example.org, *.example.org or example.org:8443"
            )
            raise SettingsError(message)
        rules.append((name, (int(port),) if colon else _PORTS))
    return AllowedHosts(tuple(dict.fromkeys(rules)))


def normal_name(host: str) -> str:
    """Return a name as it is compared: small letters, without the root's dot."""
    return host.lower().removesuffix(".")


def is_host_name(name: str) -> bool:
    """Return whether a name is one that can be looked up: labels of letters and digits, no address, no pattern."""
    return len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) is not None and name[0] != "*" and not _is_number(name)


def _matches(rule: str, name: str) -> bool:
    return name.endswith(rule[1:]) and len(name) > len(rule) - 1 if rule.startswith("*.") else name == rule


def _is_number(name: str) -> bool:
    return name.rpartition(".")[2].isdecimal()


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is one of the public network: none of a private network, a link or a cloud."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _TRANSLATED:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _GLOBAL_UNICAST:
            return False
    return address.is_global and not address.is_multicast and not any(address in network for network in _NOT_PUBLIC)
