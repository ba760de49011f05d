"""Addresses of host names, asked for once: a name that later points elsewhere leads where it led first."""

import ipaddress
import socket
from collections.abc import Mapping

import anyio
import anyio.to_thread

from envfarm.sandbox.allowlist.host_names import is_public, normal_name

_RESOLVE_SECONDS = 20.0


class NameRefusedError(Exception):
    """A name leads nowhere, or to a place that no box may reach; the message says which."""


class PinnedNames:
    """Looks names up, and keeps what it found."""

    def __init__(self, pins: Mapping[str, str]) -> None:
        """Take addresses that are known beforehand; those may be of private networks, others may not."""
        self._addresses: dict[str, tuple[str, ...]] = {normal_name(name): (address,) for name, address in pins.items()}
        self._lock = anyio.Lock()

    async def addresses_of(self, name: str) -> tuple[str, ...]:
        """Return a name's addresses, the same each time.

        Raises:
            NameRefusedError: It has none, or one that is not public.
        """
        known = normal_name(name)
        async with self._lock:
            if known not in self._addresses:
                self._addresses[known] = await _look_up(known)
        return self._addresses[known]


async def _look_up(name: str) -> tuple[str, ...]:
    found: list[str] = []
    with anyio.move_on_after(_RESOLVE_SECONDS):
        try:
            rows = await anyio.to_thread.run_sync(
                lambda: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM), abandon_on_cancel=True
            )
        except OSError as error:
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
