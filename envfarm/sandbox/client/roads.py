"""How an agent is reached: a road gives a fresh stream of bytes each time that it is asked."""

import socket
from pathlib import Path
from typing import Protocol

import anyio
from anyio.abc import ByteStream

from envfarm.errors import SandboxLostError


class Road(Protocol):
    """A way to one agent."""

    @property
    def is_private(self) -> bool:
        """Whether the kernel keeps everybody but the two ends from what goes over it: content is not hashed then."""
        ...

    async def connect(self) -> ByteStream:
        """Open a new stream to the agent.

        Raises:
            OSError: Not now; it may be tried again.
            SandboxLostError: Never again.
        """
        ...


_ROOM_BYTES = 1 << 22


def widen(connected: socket.socket) -> None:
    """Give what is sent more room, as far as the kernel lets us: large content then goes at twice the rate."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM_BYTES)


class SocketStream(ByteStream):
    """A connected socket that does not block, as a stream; one reader and one writer at a time."""

    def __init__(self, connected: socket.socket) -> None:
        """Take the socket, which is closed with the stream."""
        connected.setblocking(False)  # noqa: FBT003 -- positional only
        widen(connected)
        self.socket = connected

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return the next bytes.

        Raises:
            anyio.EndOfStream: The other side has closed.
            anyio.BrokenResourceError: The connection is broken.
            anyio.ClosedResourceError: The stream was closed meanwhile.
        """
        while True:
            try:
                data = self.socket.recv(max_bytes)
            except BlockingIOError:
                await anyio.wait_readable(self.socket)
                continue
            except OSError as error:
                raise self._broken() from error
            if not data:
                raise anyio.EndOfStream
            return data

    async def send(self, item: bytes) -> None:
        """Send all bytes; raises as `receive`."""
        left = memoryview(item)
        while left:
            try:
                left = left[self.socket.send(left) :]
            except BlockingIOError:
                await anyio.wait_writable(self.socket)
            except OSError as error:
                raise self._broken() from error

    def _broken(self) -> Exception:
        return anyio.ClosedResourceError() if self.socket.fileno() < 0 else anyio.BrokenResourceError()

    async def send_eof(self) -> None:
        """Close the way to the other side."""
        self.socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """Close the stream; who waits for it is told."""
        if self.socket.fileno() >= 0:
            anyio.notify_closing(self.socket)
            self.socket.close()


class UnixRoad:
    """A unix socket of this machine, in a folder that only its owner and the box see."""

    is_private = True

    def __init__(self, path: Path) -> None:
        """Take the socket's path."""
        self._path = path

    async def connect(self) -> ByteStream:
        """Open a new stream; see `Road`."""
        stream = SocketStream(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            stream.socket.connect(str(self._path))  # at once, or an error: nothing of a unix socket waits
        except BaseException:
            await stream.aclose()
            raise
        return stream


class TcpRoad:
    """A port of another machine or pod."""

    is_private = False

    def __init__(self, host: str, port: int) -> None:
        """Take the agent's address, numeric or a name."""
        self._host = host
        self._port = port

    async def connect(self) -> ByteStream:
        """Open a new stream; see `Road`."""
        return await anyio.connect_tcp(self._host, self._port)


class SingleRoad:
    """One stream, such as a process's standard input and output; when it is cut, the agent is gone."""

    def __init__(self, stream: ByteStream, *, is_private: bool = False) -> None:
        """Take the stream, and whether it is a pair of sockets or pipes of this machine."""
        self.is_private = is_private
        self._stream: ByteStream | None = stream

    async def connect(self) -> ByteStream:
        """Return the stream, once; see `Road`."""
        stream, self._stream = self._stream, None
        if stream is None:
            message = "the only stream to the sandbox is cut"
            raise SandboxLostError(message)
        return stream
