"""A package index on this machine: wheels of what runs this suite, and sdists that a test adds.

With it a project can be mined whole without the network: the lock, the installed environment and the runner are real.
"""

import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WHEELS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
LONG_AGO = "2020-02-02T00:00:00Z"


@dataclass
class PackageIndex:
    """What the index holds: by project, its files; by file name, the bytes."""

    port: int = 0
    files: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    broken: bool = False

    @property
    def url(self) -> str:
        """Where pip and uv find it."""
        return f"http://127.0.0.1:{self.port}/simple/"

    def environment(self) -> dict[str, str]:
        """Return this machine's variables with this index in place of the user's."""
        dropped = ("PIP_", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_EXTRA", "UV_CONFIG")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return kept | {"UV_DEFAULT_INDEX": self.url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

    def add(self, project: str, filename: str, content: bytes, **facts: object) -> None:
        """Put a file into the index."""
        self.contents[filename] = content
        told = {
            "filename": filename,
            "url": f"http://127.0.0.1:{self.port}/files/{filename}",
            "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
            "upload-time": LONG_AGO,
        }
        self.files.setdefault(project, []).append(told | facts)

    @staticmethod
    def bare_wheel(name: str) -> bytes:
        """Return a wheel of version 1.0 with one empty module."""
        buffer = io.BytesIO()
        told = {
            f"{name}.py": "",
            f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{name}-1.0.dist-info/RECORD": "",
        }
        with zipfile.ZipFile(buffer, "w") as archive:
            for path, text in told.items():
                archive.writestr(zipfile.ZipInfo(path, (2020, 2, 2, 0, 0, 0)), text)
        return buffer.getvalue()

    def add_sdist(self, project: str, version: str, files: Mapping[str, str], **facts: object) -> None:
        """Put a release's sdist into the index."""
        buffer = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as compressed,
            tarfile.open(fileobj=compressed, mode="w") as archive,
        ):
            for path, text in {"PKG-INFO": f"Name: {project}\n", **files}.items():
                member = tarfile.TarInfo(f"{project}-{version}/{path}")
                member.size = len(text.encode())
                archive.addfile(member, io.BytesIO(text.encode()))
        self.add(project, f"{project}-{version}.tar.gz", buffer.getvalue(), **facts)


def make_wheel(name: str) -> tuple[str, bytes]:
    """Return an installed distribution as a wheel: its name and its bytes."""
    found = importlib.metadata.distribution(name)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in found.files or ():
            outside = file.is_absolute() or ".." in file.parts or "__pycache__" in file.parts
            if not outside and file.name not in {"INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"}:
                archive.writestr(zipfile.ZipInfo(str(file), (2020, 2, 2, 0, 0, 0)), file.locate().read_bytes())  # type: ignore[attr-defined] # a Path
    return f"{name}-{found.version}-py3-none-any.whl", buffer.getvalue()


@contextmanager
def serve_packages(*more_wheels: str) -> Iterator[PackageIndex]:
    """Serve an index with the runner's wheels on loopback for the length of the block."""
    index = PackageIndex()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            kind, _, name = self.path.strip("/").partition("/")
            index.asked.append(self.path)
            if index.broken:
                self.answer(503, "text/plain", b"out of order")
            elif kind == "files" and name in index.contents:
                self.answer(200, "application/octet-stream", index.contents[name])
            elif kind == "simple" and name in index.files:
                page = {"meta": {"api-version": "1.1"}, "name": name, "files": index.files[name]}
                self.answer(200, "application/vnd.pypi.simple.v1+json", json.dumps(page).encode())
            else:
                self.answer(404, "text/plain", b"no such thing")

        def answer(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815 -- the server's name for it

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Say nothing: clients hang up when they have what they want."""

    server = Server(("127.0.0.1", 0), Handler)
    index.port = server.server_address[1]
    for name in (*WHEELS, *more_wheels):
        filename, content = make_wheel(name)
        index.add(name, filename, content)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
