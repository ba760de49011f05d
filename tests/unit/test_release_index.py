"""What a package index says is taken as far as it is right; a real one answers, on loopback."""

import hashlib
import io
import json
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envfarm.errors import RepositoryError
from task_miner.sources.pypi import read_sdist
from task_miner.sources.release_index import ReleaseIndex

JSON = "application/vnd.pypi.simple.v1+json"
CONTENT = b"an sdist"


@dataclass
class Index:
    """A package index that gives what it is told to."""

    address: str = ""
    answers: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)

    def say(self, *files: dict[str, Any], status: int = 200) -> None:
        page = {"meta": {"api-version": "1.1"}, "name": "p", "files": list(files)}
        self.answers["/simple/p/"] = (status, JSON, json.dumps(page).encode())

    def file(self, filename: str, **more: Any) -> dict[str, Any]:
        told = {"filename": filename, "url": f"{self.address}/files/{filename}", "upload-time": "2024-01-02T03:04:05Z"}
        return told | {"hashes": {"sha256": hashlib.sha256(CONTENT).hexdigest()}} | more


class Handler(BaseHTTPRequestHandler):
    index: ClassVar[Index]

    def do_GET(self) -> None:
        status, kind, content = self.index.answers.get(self.path, (404, "text/plain", b""))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base's own signature
        """Say nothing."""


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    Handler.index = told = Index()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{told.address}/simple")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield told
        server.shutdown()
        thread.join()


def versions(index: Index) -> list[str]:
    with ReleaseIndex() as opened:
        return [str(release.version) for release in opened.sdists("p")]


def test_sdists_come_in_the_order_of_their_versions_and_each_version_once(index: Index) -> None:
    names = ["p-1.10.tar.gz", "p-1.9.tar.gz", "p-1.9.zip", "p-2.0rc1.tar.gz", "p-1.0.tar.bz2", "p-0.1.tgz"]
    index.say(*(index.file(name) for name in names))
    assert versions(index) == ["0.1", "1.0", "1.9", "1.10", "2.0rc1"]
    with ReleaseIndex() as opened:
        releases = opened.sdists("p")
    assert [release.filename for release in releases][2] == "p-1.9.tar.gz"
    assert {release.uploaded_at for release in releases} == {1704164645}


LEFT_OUT: dict[str, tuple[str, dict[str, Any]]] = {
    "a wheel": ("p-1.0-py3-none-any.whl", {}),
    "an egg": ("p-1.0-py3.8.egg", {}),
    "an installer": ("p-1.0.exe", {}),
    "withdrawn": ("p-1.0.tar.gz", {"yanked": "broken"}),
    "without a digest": ("p-1.0.tar.gz", {"hashes": {}}),
    "of an old digest": ("p-1.0.tar.gz", {"hashes": {"md5": "0"}}),
    "without a time": ("p-1.0.tar.gz", {"upload-time": None}),
    "of no version": ("p-sometime.tar.gz", {}),
    "without a version": ("p.tar.gz", {}),
    "of another folder": ("../../p-1.0.tar.gz", {}),
    "of a new kind": ("p-1.0.tar.zst", {}),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_files_that_cannot_be_releases_are_left_out(index: Index, name: str) -> None:
    filename, more = LEFT_OUT[name]
    index.say(index.file(filename, **more), index.file("p-3.0.tar.gz"))
    assert versions(index) == ["3.0"]


ANSWERS = {
    "no JSON": (200, JSON, b"{"),
    "another shape": (200, JSON, b"[]"),
    "half a shape": (200, JSON, b'{"meta": {"api-version": "1.0"}, "files": [{}]}'),
    "another type": (200, "application/pdf", b"%PDF"),
    "a time that is none": (
        200,
        JSON,
        b'{"meta":{"api-version":"1.1"},"name":"p","files":[{"filename":"p-1.0.tar.gz","url":"a","hashes":{},"upload-time":"soon"}]}',
    ),
    "its own mistake": (500, "text/plain", b""),
    "a closed door": (403, "text/plain", b""),
    "too many questions": (429, "text/plain", b""),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_index_that_is_none_is_told_without_its_address(
    index: Index, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.answers["/simple/p/"] = ANSWERS[name]
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.address.replace("//", "//user:secret@") + "/simple")
    with pytest.raises(RepositoryError, match=r"^the package index cannot be reached \(") as caught:
        versions(index)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_project_that_is_not_known_is_told_by_its_name(index: Index) -> None:
    with pytest.raises(RepositoryError, match="knows no project 'p'"):
        versions(index)


def test_an_index_of_html_alone_tells_no_times_so_it_has_no_releases(index: Index) -> None:
    index.answers["/simple/p/"] = (200, "text/html", b"<a href='/p-1.0.tar.gz#sha256=00'>p-1.0.tar.gz</a>")
    assert versions(index) == []


def test_a_file_is_what_the_index_says_it_is_or_refused(index: Index) -> None:
    index.say(index.file("p-1.0.tar.gz"), index.file("p-2.0.tar.gz", url="file:///etc/hostname"))
    with ReleaseIndex() as opened:
        first, second = opened.sdists("p")
        index.answers["/files/p-1.0.tar.gz"] = (200, "application/gzip", CONTENT)
        assert opened.download(first) == CONTENT
        index.answers["/files/p-1.0.tar.gz"] = (200, "application/gzip", CONTENT + b"!")
        with pytest.raises(RepositoryError, match=r"^p-1\.0\.tar\.gz is not what"):
            opened.download(first)
        del index.answers["/files/p-1.0.tar.gz"]
        with pytest.raises(RepositoryError, match=r"^p-1\.0\.tar\.gz cannot be downloaded \(HTTPError\)"):
            opened.download(first)
        with pytest.raises(RepositoryError, match=r"^p-2\.0\.tar\.gz cannot be downloaded \(InvalidSchema\)"):
            opened.download(second)


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"])
def test_the_index_is_the_one_that_pip_or_uv_would_ask(
    index: Index, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    monkeypatch.delenv("PIP_CONFIG_FILE")
    monkeypatch.setenv(variable, f"{index.address}/simple/")
    index.say(index.file("p-1.0.tar.gz"))
    assert versions(index) == ["1.0"]


def tar(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload] # of a table of tests
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname, info.mode = kind, len(content), "/etc/passwd", 0o755
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def test_an_sdist_gives_files_below_its_top_folder_and_nothing_of_packaging() -> None:
    names = ["p-1/a.py", "p-1/b/c.py", "p-1/PKG-INFO", "p-1/p.egg-info/x", "p-1/.git/config", "p-1/b/d.pyc", "top.py"]
    names += ["/p-1/absolute", "p-1/../../up", "../p-1/up", "p-1/__pycache__/x", "p-1/b/PKG-INFO"]
    members = [(name, name.encode()) for name in names]
    for filename, content in (
        ("p.tar.gz", tar(*members)),
        ("p.tar.bz2", tar(*members, mode="w:bz2")),
        ("p.zip", zipped(*members)),
    ):
        found = dict(read_sdist(filename, content))
        assert {path: data for path, (_, data) in found.items()} == {"a.py": b"p-1/a.py", "b/c.py": b"p-1/b/c.py"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_an_sdist_gives_no_links_and_devices(kind: bytes) -> None:
    assert list(read_sdist("p.tar.gz", tar(("p/a", b""), kind=kind))) == []


def test_a_file_that_is_too_large_is_left_out() -> None:
    content = bytes(9 << 20)
    for filename, archive in (
        ("p.tar.gz", tar(("p/a", content), ("p/b", b""))),
        ("p.zip", zipped(("p/a", content), ("p/b", b""))),
    ):
        assert [path for path, _ in read_sdist(filename, archive)] == ["b"]


@given(st.binary(max_size=60), st.sampled_from(["p.tar.gz", "p.zip", "p.tar.bz2"]))
@settings(max_examples=60)
def test_any_bytes_are_a_damaged_sdist(content: bytes, filename: str) -> None:
    with pytest.raises(RepositoryError, match=rf"^{filename} is damaged"):
        list(read_sdist(filename, content))


@pytest.mark.parametrize("filename", ["p.tar.gz", "p.zip"])
def test_an_sdist_that_is_cut_is_damaged(filename: str) -> None:
    whole = zipped(("p/a", os.urandom(2000))) if filename == "p.zip" else tar(("p/a", os.urandom(2000)))
    for kept in range(0, len(whole) - 600, 97):
        with pytest.raises(RepositoryError, match="is damaged"):
            list(read_sdist(filename, whole[:kept]))
