"""What a box does to the proxy of its allowlist ends its own connection, and nobody else's."""

import contextlib
import http.server
import random
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import pytest

from envfarm.sandbox.allowlist import pinned_names, proxy
from envfarm.sandbox.allowlist.host_names import read_hosts
from envfarm.sandbox.allowlist.pinned_names import NameRefusedError, PinnedNames
from envfarm.sandbox.allowlist.proxy import Allowlist, serve_allowlist

HOLD = """
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = []
for _ in range(int(sys.argv[2])):
    one = socket.socket(socket.AF_UNIX)
    one.setblocking(False)
    try:
        one.connect(sys.argv[1])
    except OSError:
        continue
    held.append(one)
print("held", flush=True)
sys.stdin.read()
"""
FENCED = ["bwrap", "--dev-bind", "/", "/", "--unshare-net"]


class Raw(http.server.BaseHTTPRequestHandler):
    """A host that keeps each request's bytes, and answers what its server says."""

    def handle(self) -> None:
        self.server.talk(self.request)  # type: ignore[attr-defined] -- of `serve`


@contextmanager
def serve(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Raw) as server:
        server.daemon_threads = True
        server.talk = talk  # type: ignore[attr-defined] -- as above
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@asynccontextmanager
async def open_proxy(place: Path, *hosts: str) -> AsyncIterator[Path]:
    """Give the socket of a proxy; an error of it is raised at the end of the block, as it would end a driver."""
    async with anyio.create_task_group() as group:
        pins = {"mirror.test": "127.0.0.1"}
        allowlist = Allowlist(hosts=read_hosts(hosts or ("mirror.test", "*.test")), names=PinnedNames(pins))
        scope = await serve_allowlist(group, place / "socket", allowlist)
        yield place / "socket"
        scope.cancel()


async def ask(path: Path, data: bytes, *, seconds: float = 20.0) -> bytes:
    said = b""
    with anyio.fail_after(seconds):
        async with await anyio.connect_unix(path) as stream:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.EndOfStream):
                await stream.send(data)
                while True:
                    said += await stream.receive()
    return said


async def expect_alive(path: Path) -> None:
    said = await ask(path, b"GET http://else.example/ HTTP/1.1\r\nHost: a\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 403"), said


def run(check: Callable[[], Awaitable[None]]) -> None:
    anyio.run(check)


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET http://" + b"a" * 64 + b".test/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a..b.test:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://%2e.test/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://[::1].test/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a@b@mirror.test:x/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT mirror.test:99999 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT mirror.test:-1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST http://mirror.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET http://mirror.test/ HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET \x00\xff http\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_a_malformed_request_is_refused_and_the_next_one_answered(request_head: bytes, tmp_path: Path) -> None:
    async def check() -> None:
        async with open_proxy(tmp_path) as path:
            said = await ask(path, request_head)
            assert said[:13] in {b"HTTP/1.1 400 ", b"HTTP/1.1 403 ", b"HTTP/1.1 502 "}, said
            await expect_alive(path)

    run(check)


def test_noise_ends_nothing_but_its_own_connection(tmp_path: Path) -> None:
    words = [
        b"GET ",
        b"CONNECT ",
        b"http://",
        b"mirror.test",
        b"a.test",
        b":80",
        b" HTTP/1.1",
        b"\r\n",
        b"Host: a",
        b"\r\n",
    ]
    words += [
        b"Transfer-Encoding: chunked",
        b"Content-Length: 5",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"\x00",
        b"\xff",
        b"@",
        b"[",
        b"%",
        b"/",
    ]
    chance = random.Random(20)

    async def shout(path: Path, data: bytes) -> None:
        async with await anyio.connect_unix(path) as stream:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.EndOfStream), anyio.move_on_after(0.5):
                await stream.send(data)
                await stream.send_eof()
                await stream.receive()

    async def check() -> None:
        async with open_proxy(tmp_path) as path:
            for _ in range(300):
                await shout(path, b"".join(chance.choices(words, k=chance.randrange(1, 14))))
            await expect_alive(path)

    run(check)


def test_a_host_that_breaks_off_ends_nothing_else(tmp_path: Path) -> None:
    def break_off(connection: socket.socket) -> None:
        connection.recv(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset

    async def check() -> None:
        with serve(break_off) as port:
            async with open_proxy(tmp_path, f"mirror.test:{port}") as path:
                for _ in range(20):
                    await ask(path, b"CONNECT mirror.test:%d HTTP/1.1\r\nHost: a\r\n\r\n%s" % (port, b"x" * 500_000))
                await expect_alive(path)

    run(check)


def test_a_body_has_one_length_and_hop_headers_stay_behind(tmp_path: Path) -> None:
    got: list[bytes] = []

    def keep(connection: socket.socket) -> None:
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += connection.recv(65536)
        got.append(data)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    head = (
        b"POST http://mirror.test:%d/a HTTP/1.1\r\nHost: other.test\r\nContent-Length: 4\r\n"
        b"Connection: X-Secret, close\r\nX-Secret: 1\r\nUpgrade: websocket\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n"
    )

    async def check() -> None:
        with serve(keep) as port:
            async with open_proxy(tmp_path, f"mirror.test:{port}") as path:
                assert b" 200 OK" in await ask(path, head % port)
                assert b"content-length" not in got[0].lower()
                assert got[0].lower().count(b"host: mirror.test:%d\r\n" % port) == got[0].lower().count(b"host:") == 1
                assert b"secret" not in got[0].lower()
                assert b"upgrade" not in got[0].lower()

    run(check)


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(tmp_path: Path) -> None:
    def give_leave(connection: socket.socket) -> None:
        assert b"100-continue" in connection.recv(65536)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert connection.recv(4) == b"body"
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def check() -> None:
        with serve(give_leave) as port:
            async with open_proxy(tmp_path, f"mirror.test:{port}") as path, await anyio.connect_unix(path) as stream:
                head = b"PUT http://mirror.test:%d/ HTTP/1.1\r\nHost: a\r\n"
                head += b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n"
                with anyio.fail_after(20):
                    await stream.send(head % port)
                    assert (await stream.receive()).startswith(b"HTTP/1.1 100")
                    await stream.send(b"body")
                    assert (await stream.receive()).startswith(b"HTTP/1.1 200")

    run(check)


def test_a_tunnel_lives_while_either_side_moves_and_not_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "_IDLE_SECONDS", 1.0)

    def trickle(connection: socket.socket) -> None:
        for _ in range(8):
            connection.sendall(b".")
            time.sleep(0.3)
        connection.sendall(connection.recv(5))
        time.sleep(30)

    async def check() -> None:
        with serve(trickle) as port:
            async with open_proxy(tmp_path, f"mirror.test:{port}") as path, await anyio.connect_unix(path) as stream:
                await stream.send(b"CONNECT mirror.test:%d HTTP/1.1\r\nHost: a\r\n\r\n" % port)
                said = b""
                with anyio.fail_after(10):
                    while said.count(b".") < 8 + 1:  # one in HTTP/1.1
                        said += await stream.receive()
                    await stream.send(b"after")
                    while not said.endswith(b"after"):
                        said += await stream.receive()
                    with pytest.raises(anyio.EndOfStream):
                        await stream.receive()

    run(check)


@contextmanager
def holding(path: Path, connections: int) -> Iterator[None]:
    """Have another box hold connections: a process with a network of its own."""
    words = [*FENCED, sys.executable, "-c", HOLD, str(path), str(connections)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            assert process.stdout.readline() == b"held\n"
            yield
        finally:
            process.stdin.close()
            process.wait(20)


def test_a_box_that_takes_all_seats_leaves_some_to_others(tmp_path: Path) -> None:
    async def check() -> None:
        async with open_proxy(tmp_path) as path:
            opened = holding(path, 2000)
            await anyio.to_thread.run_sync(opened.__enter__)
            try:
                await expect_alive(path)
            finally:
                await anyio.to_thread.run_sync(opened.__exit__, None, None, None)
            await expect_alive(path)

    run(check)


def test_connections_beyond_all_descriptors_do_not_end_the_driver(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def check() -> None:
        async with open_proxy(tmp_path) as path:
            opened = holding(path, 400)
            await anyio.to_thread.run_sync(opened.__enter__)
            resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
            await anyio.sleep(1)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await anyio.to_thread.run_sync(opened.__exit__, None, None, None)
            await expect_alive(path)

    run(check)


def test_a_name_that_is_slow_to_find_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(name: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        time.sleep(3.0 if name.startswith("slow") else 0.0)
        return [(socket.AF_INET, 1, 6, "", ("1.1.1.1", 0))]

    async def check() -> None:
        names = PinnedNames({})
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(names.addresses_of, f"slow{number}.test")
            await anyio.sleep(0.1)
            with anyio.fail_after(1.5):
                assert await names.addresses_of("quick.test") == ("1.1.1.1",)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    run(check)


def test_a_box_cannot_have_names_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned_names, "_MOST_NAMES", 5)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", ("1.1.1.1", 0))])

    async def check() -> None:
        names = PinnedNames({"mirror.test": "127.0.0.1"})
        for number in range(4):
            await names.addresses_of(f"a{number}.test")
        with pytest.raises(NameRefusedError, match="too many"):
            await names.addresses_of("b.test")
        assert await names.addresses_of("a0.test") == ("1.1.1.1",)

    run(check)


def test_a_name_that_leads_to_this_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own public address looks like anybody's; here loopback stands for it."""
    monkeypatch.setattr(pinned_names, "is_public", lambda _: True)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", ("127.0.0.1", 0))])
    reached: list[bytes] = []

    async def check() -> None:
        with serve(lambda connection: reached.append(connection.recv(1))) as port:
            async with open_proxy(tmp_path, f"own.test:{port}") as path:
                said = await ask(path, b"CONNECT own.test:%d HTTP/1.1\r\nHost: a\r\n\r\nx" % port)
                assert said.startswith(b"HTTP/1.1 502"), said
        assert reached in ([], [b""])

    run(check)
