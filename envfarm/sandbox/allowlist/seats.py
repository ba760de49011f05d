"""Seats at a proxy that several boxes share: none of them can take all, and all together cannot exhaust the driver."""

import resource
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
from anyio.abc import SocketAttribute, SocketStream

_MOST, _MOST_OF_BOX = 256, 64
_DESCRIPTORS_PER_SEAT = 4
"""Two for a connection, one for another that waits, and one for all else that a driver does."""
_CREDENTIALS = struct.Struct("3i")


class SeatsTakenError(Exception):
    """A box waits for too many connections already, or all boxes together do."""


class Seats:
    """Counts who is connected; those of a box that has its share wait, and not too many of them."""

    def __init__(self) -> None:
        """Take as many as this process may open files for."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = max(4, _MOST if files < 0 else min(_MOST, files // _DESCRIPTORS_PER_SEAT))
        self._most_of_box = max(1, min(_MOST_OF_BOX, self._most // 4))
        self._all = anyio.CapacityLimiter(self._most)
        self._boxes: dict[str, anyio.CapacityLimiter] = {}
        self._present: Counter[str] = Counter()

    @asynccontextmanager
    async def seat(self, box: str) -> AsyncIterator[None]:
        """Give a seat for the length of the block, as soon as the box and all together have one.

        Raises:
            SeatsTakenError: Too many wait already.
        """
        with self._queued(box) as limiter:
            async with limiter, self._all:
                yield

    @contextmanager
    def _queued(self, box: str) -> Iterator[anyio.CapacityLimiter]:
        if self._present[box] >= 2 * self._most_of_box or self._present.total() >= 2 * self._most:
            raise SeatsTakenError
        self._present[box] += 1
        try:
            yield self._boxes.setdefault(box, anyio.CapacityLimiter(self._most_of_box))
        finally:
            self._present[box] -= 1
            if not self._present[box]:
                del self._present[box], self._boxes[box]


def box_of(stream: SocketStream) -> str:
    """Return what tells the box of who connected from others: its network; all that cannot be told are one."""
    raw_socket = stream.extra_attributes[SocketAttribute.raw_socket]()
    credentials = raw_socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, _, _ = _CREDENTIALS.unpack(credentials)
    try:
        return str(Path(f"/proc/{process}/ns/net").readlink())
    except OSError:  # it has ended, or is not for this user to see
        return ""
