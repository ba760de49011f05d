"""An HTTP proxy on a unix socket that lets through what is allowed: CONNECT, and plain HTTP.

Covered: names are compared before anything is looked up; what a name leads to is pinned and has to be public; a request
line and the Host header cannot name different hosts, since the header is made anew; a body has one length; one request
per connection; whatever a client sends ends its own connection and nothing else; no box takes the seats of all.

Not covered: what goes through a tunnel. Who may reach one name of a shared front may reach its neighbours there by
naming them inside TLS, and data can be sent to any host that is allowed.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import anyio
import h11
from anyio.abc import ByteStream, SocketAttribute, SocketListener, SocketStream, TaskGroup

from envfarm.sandbox.allowlist.host_names import AllowedHosts
from envfarm.sandbox.allowlist.joined_streams import CHUNK, LOST, Moved, copy_stream, join_streams
from envfarm.sandbox.allowlist.pinned_names import NameRefusedError, PinnedNames
from envfarm.sandbox.allowlist.seats import Seats, SeatsTakenError, box_of

_HEAD_SECONDS, _CONNECT_SECONDS, _IDLE_SECONDS = 30.0, 30.0, 300.0
_PAUSE_SECONDS = 0.1
_HTTP_PORT = 80
_HOP_HEADERS = {b"connection", b"proxy-connection", b"keep-alive", b"proxy-authorization", b"te", b"upgrade", b"host"}
_LENGTH, _CODING = b"content-length", b"transfer-encoding"


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

    async def listen() -> None:
        with scope:
            async with listener, anyio.create_task_group() as connections:
                await _accept(listener, connections, allowlist)

    scope = anyio.CancelScope()
    group.start_soon(listen)
    return scope


async def _accept(listener: SocketListener, connections: TaskGroup, allowlist: Allowlist) -> None:
    seats = Seats()

    async def handle(stream: SocketStream) -> None:
        async with stream:
            try:
                async with seats.seat(box_of(stream)):
                    await _answer(stream, allowlist)
            except SeatsTakenError:
                await _say(stream, 503, "this sandbox has too many connections open")

    while True:
        try:
            stream = await listener.accept()
        except (OSError, anyio.BrokenResourceError):  # the driver has no descriptor left: somebody will close one
            await anyio.sleep(_PAUSE_SECONDS)
            continue
        connections.start_soon(handle, stream)


async def _answer(stream: ByteStream, allowlist: Allowlist) -> None:
    connection = h11.Connection(h11.SERVER)
    try:
        with anyio.fail_after(_HEAD_SECONDS):
            request = await _read_request(stream, connection)
        if request is None:
            return
        parts, port = _target_of(request)
        async with _reach(allowlist, parts.hostname or "", port) as far:
            if request.method == b"CONNECT":
                await stream.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _tunnel(stream, connection, far)
            else:
                await _forward(stream, connection, request, far, parts)
    except _RefusedError as refusal:
        await _say(stream, refusal.status, str(refusal))
    except h11.RemoteProtocolError as error:
        await _say(stream, 400, f"that is no HTTP request: {error}")
    except (*LOST, TimeoutError, anyio.EndOfStream):
        return


async def _read_request(stream: ByteStream, connection: h11.Connection) -> h11.Request | None:
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        try:
            connection.receive_data(await stream.receive(CHUNK))
        except anyio.EndOfStream:
            return None


def _target_of(request: h11.Request) -> tuple[SplitResult, int]:
    text = request.target.decode("latin-1")
    is_tunnel = request.method == b"CONNECT"
    try:
        parts = urlsplit(f"//{text}" if is_tunnel else text)
        port = parts.port
    except ValueError:
        parts, port = None, None
    if parts is None or not parts.hostname or (is_tunnel and port is None):
        raise _RefusedError(400, f"the proxy of this sandbox cannot read where to: {text[:200]}")
    if not is_tunnel and parts.scheme != "http":
        raise _RefusedError(400, "the proxy of this sandbox takes http:// and CONNECT")
    return parts, _HTTP_PORT if port is None else port


@asynccontextmanager
async def _reach(allowlist: Allowlist, host: str, port: int) -> AsyncIterator[SocketStream]:
    if not allowlist.hosts.allows(host, port):
        allowlist.refused(host)
        raise _RefusedError(403, f"{host}:{port} is not on this sandbox's allowlist")
    try:
        addresses = await allowlist.names.addresses_of(host)
    except NameRefusedError as error:
        raise _RefusedError(502, str(error)) from error
    async with await _connect(addresses, host, port) as stream:
        if not allowlist.names.is_known_beforehand(host) and _is_of_this_machine(stream):
            raise _RefusedError(502, f"{host} leads to this machine itself")
        yield stream


async def _connect(addresses: tuple[str, ...], host: str, port: int) -> SocketStream:
    for address in addresses:
        try:
            with anyio.fail_after(_CONNECT_SECONDS):
                return await anyio.connect_tcp(address, port)
        except (OSError, TimeoutError):
            continue
    raise _RefusedError(502, f"{host}:{port} cannot be reached")


def _is_of_this_machine(stream: SocketStream) -> bool:
    """Say whether both ends have the same address, as only a machine that talks to itself has."""
    known = stream.extra_attributes
    return str(known[SocketAttribute.local_address]()[0]) == str(known[SocketAttribute.remote_address]()[0])


async def _tunnel(stream: ByteStream, connection: h11.Connection, far: ByteStream) -> None:
    sent_already, _ = connection.trailing_data

    async def upload(moved: Moved) -> None:
        if sent_already:
            await far.send(sent_already)
        await copy_stream(stream, far, moved)

    await join_streams(stream, far, upload, _IDLE_SECONDS)


async def _forward(
    stream: ByteStream, connection: h11.Connection, request: h11.Request, far: ByteStream, parts: SplitResult
) -> None:
    async def upload(moved: Moved) -> None:
        upstream = h11.Connection(h11.CLIENT)
        await far.send(upstream.send(_told_on(request, parts)) or b"")
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive(CHUNK))
                moved()
            elif isinstance(event, h11.Data):
                await far.send(upstream.send(h11.Data(data=bytes(event.data))) or b"")
                moved()
            else:
                await far.send(upstream.send(h11.EndOfMessage()) or b"")
                return

    await join_streams(stream, far, upload, _IDLE_SECONDS)


def _told_on(request: h11.Request, parts: SplitResult) -> h11.Request:
    """Return the request as the host gets it: one name, one length of its body, nothing for the proxy."""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    name = parts.hostname or ""
    if parts.port not in {None, _HTTP_PORT}:
        name = f"{name}:{parts.port}"
    named = b",".join(value for key, value in request.headers if key == b"connection").lower().split(b",")
    dropped = _HOP_HEADERS | ({word.strip() for word in named} - {_LENGTH, _CODING})
    if any(key == _CODING for key, _ in request.headers):
        dropped |= {_LENGTH}
    kept = [(key, value) for key, value in request.headers if key not in dropped]
    headers = [(b"host", name.encode()), *kept, (b"connection", b"close")]
    return h11.Request(method=request.method, target=target, headers=headers)


async def _say(stream: ByteStream, status: int, message: str) -> None:
    body = f"{message}\n".encode()
    head = f"HTTP/1.1 {status} Refused\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    try:
        await stream.send(head.encode() + b"Connection: close\r\n\r\n" + body)
    except LOST:
        return
