"""The agent in Python, for hosts that the C program does not fit: ``python3 -I -S FOLDER --unix PATH``, or as there.

Standard library only, Python 3.6 and newer. The same protocol, the same behaviour; PROTOCOL.md speaks for both.
"""

import contextlib
import fcntl
import os
import signal
import socket
import sys

import system
import wire
from connection import CONNECTIONS_MOST, STRANGER_MS, Connection, Loop
from files import Files
from jobs import LOWEST
from session import Claim
from table import Table

ENDED, BAD_USAGE, CANNOT_LISTEN, LEASE_EXPIRED, UNCLAIMED, TERMINATED, CUT = 0, 2, 3, 10, 11, 12, 13
USAGE = "usage: envfarm-agent (--unix PATH | --tcp ADDRESS:PORT | --stdio) [--unclaimed-seconds N], or --relay PATH"
LAST_WORDS_MS, END_PATIENCE_MS = 2000, 8000
ROOM = 1 << 22
READABLE = 1


class Agent:
    """What there is one of."""

    def __init__(self):
        """Begin unclaimed, without connections."""
        self.loop = Loop()
        self.claim = Claim()
        self.instance = os.urandom(16)
        self.connections = []
        self.jobs = Table(self.loop)
        self.files = Files()
        self.listener = self.socket_path = self.end_to = None
        self.exit_code = None
        sees = system.sees_processes()
        first, root = os.getpid() == 1, os.geteuid() == 0
        self.facts = (1 if first else 0) | (2 if sees else 0) | (4 if root else 0)

    def supersede_others(self, joined):
        """Close older trusted connections."""
        for other in self.connections:
            if other is not joined and other.session.trusted:
                other.dead = True

    def perform(self, to, frame):
        """Perform a trusted request."""
        if frame.kind not in wire.SHAPES or frame.kind == wire.ENTRY_KIND:
            to.plain(wire.UNKNOWN_KIND, "no such request")
            return
        try:
            if frame.status or (frame.bulk and frame.kind not in (wire.PUT, wire.DATA)):
                raise wire.MalformedError
            self.perform_right(to, wire.judge(frame.kind, frame.fields), frame)
        except wire.MalformedError:
            to.plain(wire.MALFORMED, "the fields are not those of this request")

    def perform_right(self, to, request, frame):
        """Perform a request whose fields are in order."""
        if frame.kind == wire.PING:
            to.reply(wire.OK, [])
        elif frame.kind == wire.END:
            self.end(ENDED)
            self.end_to = to
        elif frame.kind == wire.START and self.exit_code is not None:
            to.plain(wire.ENDING, "the agent is ending")
        elif frame.kind < wire.PUT:
            self.jobs.perform(to, request)
        else:
            self.files.perform(to, request, frame.bulk)

    def end(self, exit_code):
        """Kill everything; only the first call counts."""
        if self.exit_code is not None:
            return
        self.exit_code = exit_code
        if self.listener is not None:
            self.loop.forget(self.listener.fileno())
            self.listener.close()
        if self.socket_path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.socket_path)
        self.files.end()
        self.jobs.end_all()

    def open(self, reading, writing, lasting):
        """Serve a new connection; the oldest stranger makes room."""
        strangers = [other for other in self.connections if not other.session.trusted and not other.lasting]
        if len(self.connections) >= CONNECTIONS_MOST and strangers:
            strangers[0].dead = True
        self.connections.append(Connection(self, reading, writing, lasting))

    def on_connection(self, _):
        """Take a new connection."""
        try:
            stream, _ = self.listener.accept()
            if stream.family == socket.AF_UNIX:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)  # as far as the kernel lets us
        except OSError:
            return
        with stream:
            if stream.family != socket.AF_UNIX:
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", 18), 60000)
            fd = stream.detach()
        self.open(fd, os.dup(fd), False)

    def tend(self):
        """Tend to connections; returns when to be called again."""
        for connection in self.connections:
            connection.tend()
        for connection in [other for other in self.connections if other.dead]:
            self.connections.remove(connection)
            self.jobs.forget_connection(connection)
            if self.end_to is not None and self.end_to.connection is connection:
                self.end_to = None
            if connection.lasting:
                self.end(CUT)
            connection.close()
        waiting = [one.since_ms for one in self.connections if not one.session.trusted and not one.lasting]
        return min(waiting) + STRANGER_MS if waiting else None

    def serve(self, unclaimed_ms):
        """Serve until nothing is left to serve."""
        give_up_ms = None
        while True:
            times = [self.tend(), self.jobs.tend()]
            lease_end = self.claim.deadline_ms if self.claim.made else unclaimed_ms
            if lease_end is not None and system.now_ms() >= lease_end:
                self.end(LEASE_EXPIRED if self.claim.made else UNCLAIMED)
            if self.exit_code is not None:
                give_up_ms = give_up_ms or system.now_ms() + END_PATIENCE_MS
                if self.jobs.all_gone() or system.now_ms() >= give_up_ms:
                    return
                lease_end = system.now_ms() + 10
            self.tend()
            self.loop.turn(min((time for time in [*times, lease_end] if time is not None), default=None))

    def say_last_words(self):
        """Answer an END, and send what is to be sent."""
        if os.getpid() == 1:
            with contextlib.suppress(OSError):
                os.kill(-1, signal.SIGKILL)
        if self.end_to is not None:
            self.end_to.reply(wire.OK, [])
        deadline = system.now_ms() + LAST_WORDS_MS
        while system.now_ms() < deadline:
            self.tend()
            if not any(connection.output for connection in self.connections):
                return
            self.loop.turn(deadline)


def say(line):
    """Say that the agent is ready; nobody has to listen."""
    with contextlib.suppress(OSError):
        os.write(1, line)


def listen(agent, options):
    """Listen where the options say."""
    if "--unix" in options:
        listener = socket.socket(socket.AF_UNIX)
        mask = os.umask(0o177)  # the socket is its owner's alone
        try:
            listener.bind(options["--unix"])
        finally:
            os.umask(mask)
        agent.socket_path = options["--unix"]
        line = b"ready unix\n"
    else:
        host, _, port = options["--tcp"].rpartition(":")
        listener = socket.socket(socket.AF_INET6 if host[:1] == "[" else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), int(port)))
        line = b"ready tcp %d\n" % listener.getsockname()[1]
    listener.listen(64)
    listener.setblocking(False)
    agent.listener = listener
    agent.loop.watch(listener.fileno(), READABLE, agent.on_connection)
    say(line)


def watch_signals(agent):
    """Let signals wake the loop; those that mean the end, end."""
    waking, wakes = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LOWEST) for fd in os.pipe())
    os.set_blocking(waking, False)
    os.set_blocking(wakes, False)
    ends = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in (*ends, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    if os.getpid() == 1:  # a job could have sent them, and Python does not tell who did
        for number in ends:
            signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(wakes)

    def wake(_):
        with contextlib.suppress(BlockingIOError):
            if any(number != signal.SIGCHLD for number in os.read(waking, 4096)):
                agent.end(TERMINATED)
        agent.jobs.reap()

    agent.loop.watch(waking, READABLE, wake)


def reserve_descriptors():
    """Keep the numbers that jobs want from being used."""
    fd = os.open("/", os.O_RDONLY)
    while fd < LOWEST:
        fd = os.dup(fd)
    os.close(fd)


def relay(path):
    """Join standard input and output to an agent's socket."""
    stream = socket.socket(socket.AF_UNIX)
    try:
        stream.connect(path)
    except OSError as error:
        sys.stderr.write("envfarm-agent: cannot reach the agent at %s: %s\n" % (path, error))
        return CANNOT_LISTEN
    parent = os.getpid()
    try:
        child = os.fork()  # one process for each direction: none waits for the other
    except OSError as error:
        sys.stderr.write("envfarm-agent: cannot make a process for the other direction: %s\n" % error)
        return CANNOT_LISTEN

    def copy(reading, writing):
        with contextlib.suppress(OSError):
            data = os.read(reading, 1 << 16)
            while data:
                view = memoryview(data)
                while view:
                    view = view[os.write(writing, view) :]
                data = os.read(reading, 1 << 16)

    if child == 0:
        copy(stream.fileno(), 1)
        system.send(parent, signal.SIGTERM)
        os._exit(ENDED)
    copy(0, stream.fileno())
    system.send(child, signal.SIGKILL)
    return ENDED


def read_options(words):
    """Return the options, or None where they are none."""
    options = {}
    words = list(words)
    while words:
        word = words.pop(0)
        if word == "--stdio":
            options[word] = ""
        elif word in ("--unix", "--tcp", "--relay", "--unclaimed-seconds") and words:
            options[word] = words.pop(0)
        else:
            return None
    unclaimed = options.get("--unclaimed-seconds", "0")
    roads = [word for word in ("--unix", "--tcp", "--relay", "--stdio") if word in options]
    return options if len(roads) == 1 and unclaimed.isdigit() else None


def main():
    """Be an agent until the lease ends."""
    options = read_options(sys.argv[1:])
    if options is None:
        sys.stderr.write("envfarm-agent: " + USAGE + "\n")
        return BAD_USAGE
    if "--relay" in options:
        return relay(options["--relay"])
    ends = None
    if "--stdio" in options:
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LOWEST) for fd in (0, 1)]
        os.close(0)
        os.close(1)
    reserve_descriptors()
    os.umask(0o022)  # whatever the caller's was: folders that are made have the mode that the protocol says
    system.prctl(system.DUMPABLE, 0)
    system.prctl(system.SUBREAPER, 1)
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            os.setgroups([])
    agent = Agent()
    watch_signals(agent)
    try:
        if ends is not None:
            agent.open(ends[0], ends[1], True)
        else:
            listen(agent, options)
    except (OSError, ValueError) as error:
        sys.stderr.write("envfarm-agent: cannot listen: %s\n" % error)
        return CANNOT_LISTEN
    unclaimed = int(options.get("--unclaimed-seconds", "0"))
    agent.serve(system.now_ms() + unclaimed * 1000 if unclaimed else None)
    agent.say_last_words()
    return agent.exit_code


if __name__ == "__main__":
    code = main()
    os._exit(code)
