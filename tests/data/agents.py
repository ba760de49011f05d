"""Agents to be tried: each kind is a real process, reached by the road that its kind says."""

import contextlib
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.streams.stapled import StapledByteStream

from envfarm.sandbox.agent.programs import TWIN, agent_program
from envfarm.sandbox.client.connection import AgentClient, open_agent
from envfarm.sandbox.client.frames import (
    Fields,
    Frame,
    FrameReader,
    Keys,
    Kind,
    Status,
    Tag,
    derive_keys,
    encode_fields,
    encode_frame,
)
from envfarm.sandbox.client.link import Claim
from envfarm.sandbox.client.roads import Road, SingleRoad, TcpRoad, UnixRoad

KINDS = (
    "c-unix",
    "c-tcp",
    "c-stdio",
    "c-first-process",
    "c-relay",
    "python-unix",
    "python-tcp",
    "python-stdio",
    "python-first-process",
)
SOCKET_KINDS = tuple(kind for kind in KINDS if not kind.endswith(("stdio", "relay")))
"""Those that can be reached again after a cut."""
PROGRAM_VARIABLE = "ENVFARM_TEST_AGENT"
"""Names another build of the C agent to be tried, such as one with sanitizers."""
KEY = bytes(range(32))


def words_of(kind: str) -> list[str]:
    """Return the command of an agent, without where it listens."""
    if kind.startswith("c-"):
        return [os.environ.get(PROGRAM_VARIABLE) or str(agent_program())]
    return [sys.executable, "-I", "-S", str(TWIN)]


@dataclass
class Running:
    """An agent that runs."""

    kind: str
    process: "subprocess.Popen[bytes]"
    path: Path | None = None
    port: int = 0
    streams: list[socket.socket] = field(default_factory=list)

    def connect(self) -> socket.socket:
        """Return a new connection."""
        stream = socket.socket(socket.AF_INET if self.path is None else socket.AF_UNIX)
        self.streams.append(stream)
        stream.connect(("127.0.0.1", self.port) if self.path is None else str(self.path))
        return stream

    def road(self) -> Road:
        """Return the road for the client."""
        return UnixRoad(self.path) if self.path is not None else TcpRoad("127.0.0.1", self.port)

    def peer(self) -> "Peer":
        """Return a peer that speaks frames by hand."""
        if self.kind.endswith("stdio"):
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            return Peer(self.process.stdout.fileno(), self.process.stdin.fileno())
        stream = self.connect()
        return Peer(stream.fileno(), stream.fileno(), stream)

    def exit_code(self, seconds: float = 15.0) -> int:
        """Wait for the agent's end."""
        return self.process.wait(seconds)


class Peer:
    """One connection, spoken by hand."""

    def __init__(self, read_fd: int, write_fd: int, keeps: socket.socket | None = None) -> None:
        self._read_fd, self._write_fd, self.keeps = read_fd, write_fd, keeps
        self._reader = FrameReader()
        self._frames: list[Frame] = []
        self.keys = Keys(b"", b"")
        self.sent = 0
        self.hello = self.frame()
        self.nonce = os.urandom(16)

    def frame(self, seconds: float = 10.0) -> Frame:
        """Return the next frame; EOFError where the connection is closed, TimeoutError where none comes."""
        deadline = time.monotonic() + seconds
        while not self._frames:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._read_fd], [], [], left)[0]:
                raise TimeoutError
            try:
                data = os.read(self._read_fd, 1 << 18)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError
            self._frames += self._reader.add(data)
        return self._frames.pop(0)

    def is_closed(self) -> bool:
        """Wait until the agent has closed the connection."""
        with contextlib.suppress(EOFError):
            while True:
                self.frame()
        return True

    def send(self, data: bytes) -> None:
        """Send bytes; a connection that is closed takes them, too."""
        view = memoryview(data)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while view:
                view = view[os.write(self._write_fd, view) :]

    def joining(
        self, claim: str = "test", key: bytes = KEY, lease_ms: int = 60_000
    ) -> list[tuple[int, bytes | str | int]]:
        """Return the fields of BIND, and take on the keys that follow from them."""
        nonce = Fields(self.hello.fields).data(Tag.NONCE)
        self.keys = derive_keys(key, agent_nonce=nonce, client_nonce=self.nonce, claim=claim)
        return [(Tag.CLAIM, claim), (Tag.NONCE, self.nonce), (Tag.LEASE_MS, lease_ms)]

    def bind(self, claim: str = "test", key: bytes = KEY, lease_ms: int = 60_000) -> Frame:
        """Bind the agent, and return its answer."""
        fields = self.joining(claim, key, lease_ms)
        self.send(encode_frame(Kind.BIND, encode_fields([*fields, (Tag.KEY, key)]), request=7))
        return self.frame()

    def resume(self, claim: str = "test", key: bytes = KEY) -> Frame:
        """Resume a claim, and return the answer."""
        fields = self.joining(claim, key)
        self.send(self.tagged(Kind.RESUME, encode_fields(fields)))
        return self.frame()

    def tagged(self, kind: int, fields: bytes = b"", bulk: bytes = b"", *, request: int = 1) -> bytes:
        """Return the next frame of this connection."""
        self.sent += 1
        return encode_frame(kind, fields, bulk, request=request, key=self.keys.to_agent, counter=self.sent - 1)

    def ask(self, kind: int, *fields: tuple[int, bytes | str | int], bulk: bytes = b"") -> Frame:
        """Send a request and return the answer."""
        self.send(self.tagged(kind, encode_fields(fields), bulk))
        return self.frame()


def bound_peer(agent: Running) -> Peer:
    """Return a peer that holds the agent."""
    peer = agent.peer()
    assert peer.bind().status == Status.OK
    return peer


@contextlib.contextmanager
def launch(kind: str, *options: str, umask: int = -1, own_proc: bool = True) -> Iterator[Running]:
    """Run an agent for the length of the block.

    Args:
        kind: One of `KINDS`.
        options: More words of its command line.
        umask: What the agent starts with; this process's by default.
        own_proc: Whether process 1 of a namespace has that namespace's /proc; else it has this one's, and no means
            to mount its own.
    """
    folder = Path(tempfile.mkdtemp(prefix="agent-"))  # short: a socket's path has at most 107 bytes
    folder.chmod(0o755)
    path = folder / "socket"
    words = words_of(kind)
    if kind.endswith("first-process"):
        if shutil.which("bwrap") is None:
            pytest.skip("bubblewrap is missing: apt-get install bubblewrap")
        words = [
            "bwrap",
            "--unshare-pid",
            "--as-pid-1",
            "--die-with-parent",
            "--dev-bind",
            "/",
            "/",
            *(("--proc", "/proc") if own_proc else ("--cap-drop", "ALL")),
            "--",
            *words,
        ]
    by_path = kind.endswith(("unix", "first-process", "relay"))
    place = ["--unix", str(path)] if by_path else ["--stdio"] if kind.endswith("stdio") else ["--tcp", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*words, *place, *options],
        stdin=subprocess.PIPE if kind.endswith("stdio") else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        bufsize=0,
        umask=umask,
    )
    agent = Running(kind, process)
    try:
        assert process.stdout is not None
        if by_path:
            assert process.stdout.readline() == b"ready unix\n"
            agent.path = path
        elif kind.endswith("tcp"):
            agent.port = int(process.stdout.readline().split()[2])
        yield agent
    finally:
        for stream in agent.streams:
            stream.close()
        for end in (process.stdin, process.stdout):
            if end is not None:
                end.close()
        if process.poll() is None:
            process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def hold(kind: str, *, lease_seconds: float = 60.0) -> AsyncIterator[tuple[AgentClient, Running]]:
    """Run an agent and hold it with the client."""
    claim = Claim(name="test", key=os.urandom(32), lease_seconds=lease_seconds)
    if kind.endswith(("stdio", "relay")):
        with contextlib.ExitStack() as stack:
            words = [*words_of(kind), "--stdio"]
            agent = None
            if kind.endswith("relay"):
                agent = stack.enter_context(launch(kind))
                words = [*words_of(kind), "--relay", str(agent.path)]
            async with await anyio.open_process(words, stderr=None) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                stream: ByteStream = StapledByteStream(process.stdin, process.stdout)
                async with open_agent(SingleRoad(stream), claim) as client:
                    yield client, agent or Running(kind, process._process)  # type: ignore[attr-defined]
        return
    with launch(kind) as agent:
        async with open_agent(agent.road(), claim) as client:
            yield client, agent


def living(marker: str) -> list[int]:
    """Return the processes whose command line holds a marker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def sleeping(marker: str) -> list[int]:
    """Return the processes that are `sleep` itself with this marker, not a shell that is about to start it."""
    found = []
    for pid in living(marker):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\0%s\0" % marker.encode():
                found.append(pid)
    return found


def dies(marker: str, seconds: float = 10.0) -> bool:
    """Wait until no process with this marker is left."""
    deadline = time.monotonic() + seconds
    while living(marker):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


_markers = iter(range(1_000_000))


def new_marker() -> str:
    """Return a number of seconds to sleep that no other process sleeps."""
    return f"9{os.getpid()}.{next(_markers):06d}"
