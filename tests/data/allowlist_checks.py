"""What an allowlist has to keep, whichever provider makes the box; hosts are servers of the test's own."""

import http.server
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from envfarm.records.image import Image
from envfarm.sandbox.contract import LeaseRequest, Network, Sandbox, SandboxProvider

ASK = """
import sys, urllib.request, urllib.error
for url in sys.argv[1:]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            print(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode().strip())
    except OSError as error:
        print(type(error).__name__, error)
"""
TUNNEL = """
import socket, sys
def ask(target, words):
    s = socket.create_connection(("127.0.0.1", 3128), timeout=20)
    s.sendall(f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n".encode())
    said = s.recv(65536).split(b"\\r\\n")[0].decode()
    if " 200 " in said:
        s.sendall(words.encode())
        s.shutdown(socket.SHUT_WR)
        data = b""
        while part := s.recv(65536):
            data += part
        said += "|" + data.split(b"\\r\\n\\r\\n")[-1].decode()
    print(said)
for target in sys.argv[1:]:
    ask(target, "GET /tunnel HTTP/1.0\\r\\n\\r\\n")
"""
PAST = """
import socket
for address in ("1.1.1.1", "10.0.0.1", "2606:4700:4700::1111"):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as s:
            s.settimeout(3)
            s.connect((address, 443))
        print("connected")
    except OSError as error:
        print(type(error).__name__)
try:
    socket.getaddrinfo("example.org", 443)
    print("resolved")
except OSError:
    print("no name")
"""


@dataclass(frozen=True)
class Server:
    """A host that tests reach: says which path and Host it was asked for."""

    port: int
    seen: list[tuple[str, str]]


class _Handler(http.server.BaseHTTPRequestHandler):
    seen: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Host", "")))
        body = f"hello {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, str(len(data))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve() -> Iterator[Server]:
    seen: list[tuple[str, str]] = []
    handler = type("Handler", (_Handler,), {"seen": seen})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Server(server.server_address[1], seen)
        finally:
            server.shutdown()
            thread.join()


def request_of(*hosts: str, image: Image) -> LeaseRequest:
    return LeaseRequest(image=image, network=Network.ALLOWLIST, allowed_hosts=hosts)


async def run(box: Sandbox, program: str, *words: str) -> list[str]:
    done = await box.exec(["python3", "-c", program, *words], timeout_seconds=120)
    assert done.exit_code == 0, done.stderr
    return done.stdout.decode().splitlines()


async def check_allowlist(provider: SandboxProvider, server: Server, image: Image) -> None:
    """Only hosts that were named are reached, by HTTP and by tunnels, and nothing goes past the proxy."""
    at = f"mirror.test:{server.port}"
    async with provider.lease(request_of(at, "nowhere.test", image=image)) as box:
        assert await run(box, PAST) == ["OSError", "OSError", "OSError", "no name"]
        urls = [f"http://{at}/a?b=c", f"http://other.test:{server.port}/", f"http://127.0.0.1.nip.io:{server.port}/"]
        said = await run(box, ASK, *urls, "http://nowhere.test/", "http://169.254.169.254/latest/")
        assert said[0] == "200 hello /a?b=c"
        assert [line.split()[0] for line in said[1:]] == ["403", "403", "502", "403"]
        assert "other.test" in said[1]
        said = await run(box, TUNNEL, at, f"127.0.0.1:{server.port}", "other.test:443", "mirror.test:22")
        assert said[0].endswith("|hello /tunnel")
        assert [line.split()[1] for line in said[1:]] == ["403", "403", "403"]
        post = (
            "import sys, urllib.request as r\n"
            "print(r.urlopen(r.Request(sys.argv[1], data=bytes(3_000_000)), timeout=30).status)"
        )
        assert await run(box, post, f"http://{at}/post") == ["200"]
    assert server.seen == [("/a?b=c", at), ("/tunnel", ""), ("/post", "3000000")]
    async with provider.lease(request_of("else.test", image=image)) as box:
        assert (await run(box, ASK, f"http://{at}/"))[0].startswith("403")
