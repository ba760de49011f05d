"""A container engine that goes away in the middle of an answer is told as one that does not answer."""

import http.server
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envfarm.errors import EngineUnreachableError
from envfarm.sandbox.docker.engine import Engine, open_engine

pytest.importorskip("docker", reason="needs the docker package: pip install 'envfarm[docker]'")


class CutShort(http.server.BaseHTTPRequestHandler):
    """Says which version it is; of anything else it says the first half."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.endswith("/version"):
            body = b'{"ApiVersion": "1.41"}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            while (size := int(self.rfile.readline(), 16)) > 0:
                self.rfile.read(size + 2)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b'40\r\n{"status": "half')
        self.close_connection = True

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return ""


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[object, object]:
        request, _ = super().get_request()
        return request, ("", 0)


@contextmanager
def half_an_engine(place: Path) -> Iterator[str]:
    path = str(place / "engine.sock")
    with _UnixServer(path, CutShort) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"unix://{path}"
        finally:
            server.shutdown()
            thread.join()


def build(engine: Engine, place: Path) -> object:
    (place / "recipe").mkdir()
    (place / "recipe" / "Dockerfile").write_text("FROM scratch\n")
    return engine.build_image(place / "recipe", "envfarm-foreign:cut")


CALLS: dict[str, Callable[[Engine, Path], object]] = {
    "build": build,
    "pull": lambda engine, _: engine.pull_image("a:1"),
    "load": lambda engine, _: engine.load_image(iter([b"archive"])),
    "save": lambda engine, _: list(engine.save_image("a:1")),
    "list": lambda engine, _: engine.list_containers("envfarm.owner"),
    "inspect": lambda engine, _: engine.image_facts("a:1"),
    "create": lambda engine, _: engine.create_container({"Image": "a:1"}),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_answer_that_is_cut_short_is_an_engine_that_does_not_answer(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with half_an_engine(tmp_path) as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        with open_engine() as engine, pytest.raises(EngineUnreachableError, match="does not answer"):
            CALLS[call](engine, tmp_path)
