"""Addresses of host names, asked for once: a name that later points elsewhere leads where it led first.

Boxes choose which names are asked for, below the rules of an allowlist: so looking up has threads of its own, one name
does not wait for another, and only so many names are remembered.
"""

import ipaddress
import socket
from collections.abc import Mapping

import anyio
import anyio.to_thread

from envfarm.sandbox.allowlist.host_names import is_host_name, is_public, normal_name

_RESOLVE_SECONDS = 20.0
_LOOK_UPS = 8
_MOST_NAMES = 4096


class NameRefusedError(Exception):
    """A name leads nowhere, or to a place that no box may reach; the message says which."""


class PinnedNames:
    """Looks names up, and keeps what it found."""

    def __init__(self, pins: Mapping[str, str]) -> None:
        """Take addresses that are known beforehand; those may be of private networks, others may not."""
        self._addresses: dict[str, tuple[str, ...]] = {normal_name(name): (address,) for name, address in pins.items()}
        self._beforehand = frozenset(self._addresses)
        self._limiter = anyio.CapacityLimiter(_LOOK_UPS)
        self._asked: dict[str, anyio.Lock] = {}

    def is_known_beforehand(self, name: str) -> bool:
        """Return whether a name's address was told to this machine, and not looked up."""
        return normal_name(name) in self._beforehand

    async def addresses_of(self, name: str) -> tuple[str, ...]:
        """Return a name's addresses, the same each time.

        Raises:
            NameRefusedError: It is no host name, has no address or one that is not public, or too many names were
                asked for before.
        """
        known = normal_name(name)
        if known in self._addresses:
            return self._addresses[known]
        if not is_host_name(known):
            message = f"{known[:80]} is no host name"
            raise NameRefusedError(message)
        if len(self._addresses) + len(self._asked) >= _MOST_NAMES:
            message = f"{known} is one name too many for this allowlist"
            raise NameRefusedError(message)
        async with self._asked.setdefault(known, anyio.Lock()):
            try:
                if known not in self._addresses:
                    self._addresses.setdefault(known, await self._look_up(known))
            finally:
                self._asked.pop(known, None)
        return self._addresses[known]

    async def _look_up(self, name: str) -> tuple[str, ...]:
        found: list[str] = []
        with anyio.move_on_after(_RESOLVE_SECONDS):
            try:
                rows = await anyio.to_thread.run_sync(
                    lambda: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM),
                    abandon_on_cancel=True,
                    limiter=self._limiter,
                )
            except (OSError, ValueError) as error:  # a name may be none for the resolver
                message = f"{name} has no address ({error})"
                raise NameRefusedError(message) from error
            found = list(dict.fromkeys(str(row[4][0]) for row in rows))
        if not found:
            message = f"{name} was not resolved in time"
            raise NameRefusedError(message)
        for address in found:
            if not is_public(ipaddress.ip_address(address)):
                message = f"{name} leads to {address}, which is not public"
                raise NameRefusedError(message)
        return tuple(found)
