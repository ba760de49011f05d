"""Reads and writes a command's pipes without ever holding more than the limits."""

import os
from collections import deque

import anyio
import anyio.lowlevel

_CHUNK_BYTES = 1 << 18


class BoundedOutput:
    """The first and the last bytes of a stream, and how many between them were dropped."""

    def __init__(self, limit_bytes: int, *, keep_tail: bool = True) -> None:
        """Keep at most `limit_bytes`: half of them from the end, or all from the start."""
        self._head_limit = limit_bytes - limit_bytes // 2 if keep_tail else limit_bytes
        self._tail_limit = limit_bytes // 2 if keep_tail else 0
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._dropped = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if not data:
            return
        self._tail.append(data)
        self._tail_bytes += len(data)
        while self._tail and self._tail_bytes - len(self._tail[0]) >= self._tail_limit:
            gone = self._tail.popleft()
            self._tail_bytes -= len(gone)
            self._dropped += len(gone)

    def close(self) -> tuple[bytes, int]:
        """Return the kept bytes, joined, and the number of those dropped between them."""
        tail = b"".join(self._tail)
        excess = max(len(tail) - self._tail_limit, 0)
        return bytes(self._head) + tail[excess:], self._dropped + excess


async def drain(descriptor: int, output: BoundedOutput) -> None:
    """Read the descriptor to its end; it has to be non-blocking, and is not closed."""
    while True:
        try:
            data = os.read(descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            await anyio.wait_readable(descriptor)
            continue
        if not data:
            return
        output.add(data)
        await anyio.lowlevel.checkpoint()


async def feed(descriptor: int, data: bytes) -> None:
    """Write all of `data`, or until nobody reads it any more; the descriptor has to be non-blocking."""
    view = memoryview(data)
    while view:
        try:
            written = os.write(descriptor, view[:_CHUNK_BYTES])
        except BlockingIOError:
            await anyio.wait_writable(descriptor)
            continue
        except BrokenPipeError:
            return
        view = view[written:]
