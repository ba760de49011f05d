"""How an agent is reached: a road gives a fresh stream of bytes each time that it is asked."""

from pathlib import Path
from typing import Protocol

import anyio
from anyio.abc import ByteStream

from envfarm.errors import SandboxLostError


class Road(Protocol):
    """A way to one agent."""

    async def connect(self) -> ByteStream:
        """Open a new stream to the agent.

        Raises:
            OSError: Not now; it may be tried again.
            SandboxLostError: Never again.
        """
        ...


class UnixRoad:
    """A unix socket of this machine, in a folder that only its owner and the box see."""

    def __init__(self, path: Path) -> None:
        """Take the socket's path."""
        self._path = path

    async def connect(self) -> ByteStream:
        """Open a new stream; see `Road`."""
        return await anyio.connect_unix(self._path)


class TcpRoad:
    """A port of another machine or pod."""

    def __init__(self, host: str, port: int) -> None:
        """Take the agent's address, numeric or a name."""
        self._host = host
        self._port = port

    async def connect(self) -> ByteStream:
        """Open a new stream; see `Road`."""
        return await anyio.connect_tcp(self._host, self._port)


class SingleRoad:
    """One stream, such as a process's standard input and output; when it is cut, the agent is gone."""

    def __init__(self, stream: ByteStream) -> None:
        """Take the stream."""
        self._stream: ByteStream | None = stream

    async def connect(self) -> ByteStream:
        """Return the stream, once; see `Road`."""
        stream, self._stream = self._stream, None
        if stream is None:
            message = "the only stream to the sandbox is cut"
            raise SandboxLostError(message)
        return stream
