"""An HTTP proxy on a unix socket that lets through what is allowed: CONNECT, and plain HTTP.

Covered: names are compared before anything is looked up; what a name leads to is pinned and has to be public; a request
line and the Host header cannot name different hosts, since the header is made anew; one request per connection.

Not covered: what goes through a tunnel. Who may reach one name of a shared front may reach its neighbours there by
naming them inside TLS, and data can be sent to any host that is allowed.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import h11
from anyio.abc import ByteStream, SocketStream, TaskGroup

from envfarm.sandbox.allowlist.host_names import AllowedHosts
from envfarm.sandbox.allowlist.pinned_names import NameRefusedError, PinnedNames

_CHUNK = 65536
_HEAD_SECONDS, _CONNECT_SECONDS, _IDLE_SECONDS = 30.0, 30.0, 300.0
_MOST_CONNECTIONS = 256
_HTTP_PORT = 80
_HOP_HEADERS = {b"connection", b"proxy-connection", b"keep-alive", b"proxy-authorization", b"te", b"upgrade", b"host"}


class _RefusedError(Exception):
    """What is told to the client in place of what it asked for."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Allowlist:
    """What a proxy lets through.

    Attributes:
        hosts: Which names.
        names: Where they lead.
        refused: Is told each host that was asked for in vain.
    """

    hosts: AllowedHosts
    names: PinnedNames
    refused: Callable[[str], None] = lambda _host: None


async def serve_allowlist(group: TaskGroup, path: Path, allowlist: Allowlist) -> anyio.CancelScope:
    """Listen on a unix socket, which every user of a box may use, until the returned scope is cancelled.

    Raises:
        OSError: It cannot listen there.
    """
    listener = await anyio.create_unix_listener(path, mode=0o666)
    limiter = anyio.CapacityLimiter(_MOST_CONNECTIONS)

    async def handle(stream: SocketStream) -> None:
        async with limiter, stream:
            await _answer(stream, allowlist)

    async def listen() -> None:
        with scope:
            async with listener:
                await listener.serve(handle)

    scope = anyio.CancelScope()
    group.start_soon(listen)
    return scope


async def _answer(stream: ByteStream, allowlist: Allowlist) -> None:
    connection = h11.Connection(h11.SERVER)
    try:
        with anyio.fail_after(_HEAD_SECONDS):
            request = await _read_request(stream, connection)
        if request is None:
            return
        host, port = _target_of(request)
        async with _reach(allowlist, host, port) as far:
            if request.method == b"CONNECT":
                await stream.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                sent_already, _ = connection.trailing_data
                if sent_already:
                    await far.send(sent_already)
                await _join(stream, far)
            else:
                await _forward(stream, connection, request, far, host, port)
    except _RefusedError as refusal:
        await _say(stream, refusal.status, str(refusal))
    except h11.RemoteProtocolError as error:
        await _say(stream, 400, f"that is no HTTP request: {error}")
    except (TimeoutError, OSError, anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError):
        return


async def _read_request(stream: ByteStream, connection: h11.Connection) -> h11.Request | None:
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        try:
            connection.receive_data(await stream.receive(_CHUNK))
        except anyio.EndOfStream:
            return None


def _target_of(request: h11.Request) -> tuple[str, int]:
    text = request.target.decode("latin-1")
    try:
        parts = urlsplit(f"//{text}" if request.method == b"CONNECT" else text)
        port = parts.port
    except ValueError:
        parts, port = None, None
    if parts is None or not parts.hostname or (request.method == b"CONNECT" and port is None):
        raise _RefusedError(400, f"the proxy of this sandbox cannot read where to: {text[:200]}")
    if request.method != b"CONNECT" and parts.scheme != "http":
        raise _RefusedError(400, "the proxy of this sandbox takes http:// and CONNECT")
    return parts.hostname, port or _HTTP_PORT


@asynccontextmanager
async def _reach(allowlist: Allowlist, host: str, port: int) -> AsyncIterator[SocketStream]:
    if not allowlist.hosts.allows(host, port):
        allowlist.refused(host)
        raise _RefusedError(403, f"{host}:{port} is not on this sandbox's allowlist")
    try:
        addresses = await allowlist.names.addresses_of(host)
    except NameRefusedError as error:
        raise _RefusedError(502, str(error)) from error
    stream = await _connect(addresses, host, port)
    async with stream:
        yield stream


async def _connect(addresses: tuple[str, ...], host: str, port: int) -> SocketStream:
    for address in addresses:
        try:
            with anyio.fail_after(_CONNECT_SECONDS):
                return await anyio.connect_tcp(address, port)
        except (OSError, TimeoutError):
            continue
    raise _RefusedError(502, f"{host}:{port} cannot be reached")


async def _forward(
    stream: ByteStream, connection: h11.Connection, request: h11.Request, far: ByteStream, host: str, port: int
) -> None:
    parts = urlsplit(request.target.decode("latin-1"))
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    name = host if port == _HTTP_PORT else f"{host}:{port}"
    kept = [(key, value) for key, value in request.headers if key not in _HOP_HEADERS]
    upstream = h11.Connection(h11.CLIENT)
    headers = [(b"host", name.encode()), *kept, (b"connection", b"close")]
    await far.send(upstream.send(h11.Request(method=request.method, target=target, headers=headers)) or b"")
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive(_CHUNK))
        elif isinstance(event, h11.Data):
            await far.send(upstream.send(h11.Data(data=bytes(event.data))) or b"")
        else:
            await far.send(upstream.send(h11.EndOfMessage()) or b"")
            break
    await _copy(far, stream)


async def _join(near: ByteStream, far: ByteStream) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_copy, near, far)
        await _copy(far, near)
        group.cancel_scope.cancel()


async def _copy(source: ByteStream, target: ByteStream) -> None:
    """Copy until the source ends, which the target is told; one that is idle for long is given up."""
    try:
        while True:
            with anyio.fail_after(_IDLE_SECONDS):
                data = await source.receive(_CHUNK)
            await target.send(data)
    except anyio.EndOfStream:
        await target.send_eof()
    except (TimeoutError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        return


async def _say(stream: ByteStream, status: int, message: str) -> None:
    body = f"{message}\n".encode()
    head = f"HTTP/1.1 {status} Refused\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    try:
        await stream.send(head.encode() + b"Connection: close\r\n\r\n" + body)
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        return
