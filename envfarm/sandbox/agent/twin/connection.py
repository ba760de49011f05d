"""The event loop, and connections on it."""

import contextlib
import os
import select

import system
import wire
from session import Session

CONNECTIONS_MOST, STRANGER_MS, READ_SIZE, OUTPUT_MOST = 16, 10000, 1 << 18, 8 << 20


class Loop:
    """Tells one watcher at a time what its descriptor is ready for."""

    def __init__(self):
        """Begin with nothing to watch."""
        self.epoll = select.epoll()
        self.watchers = {}

    def watch(self, fd, events, act):
        """Call `act` with the events."""
        if fd in self.watchers:
            self.epoll.modify(fd, events)
        else:
            self.epoll.register(fd, events)
        self.watchers[fd] = act

    def ignore(self, fd):
        """Watch no longer."""
        if self.watchers.pop(fd, None) is not None:
            self.epoll.unregister(fd)

    forget = ignore

    def close(self, fd):
        """Watch no longer, and close."""
        self.ignore(fd)
        os.close(fd)

    def turn(self, deadline_ms):
        """Wait for one event until the deadline."""
        seconds = 3600.0 if deadline_ms is None else max(deadline_ms - system.now_ms(), 0) / 1000.0
        for fd, events in self.epoll.poll(seconds, 1):
            act = self.watchers.get(fd)
            if act is not None:
                act(events)


class Address:
    """Where a reply goes."""

    def __init__(self, connection, frame):
        """Take the request's connection and number."""
        self.connection = connection
        self.kind = frame.kind
        self.request = frame.request
        self.fields = frame.fields

    def room(self):
        """Return how much data a reply may carry before the peer has to read."""
        return max(OUTPUT_MOST - len(self.connection.output), 0)

    def reply(self, status, fields, bulk=b""):
        """Answer."""
        connection = self.connection
        if not connection.dead:
            kind = self.kind | wire.REPLY
            data = wire.join_fields(fields)
            connection.output += connection.session.seal(kind, self.request, status, data, bulk)

    def plain(self, status, message):
        """Answer with a status and words."""
        self.reply(status, [(wire.MESSAGE, message.encode())])

    def error(self, number):
        """Answer with an error number."""
        self.reply(wire.SYSTEM, [(wire.ERRNO, number)])


class Connection:
    """Bytes in and out, cut into frames."""

    def __init__(self, agent, reading, writing, lasting):
        """Greet who came; the descriptors are this connection's."""
        self.agent = agent
        self.reading, self.writing, self.lasting = reading, writing, lasting
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        self.session = Session(agent.claim, os.urandom(16))
        self.input = bytearray()
        self.output = bytearray()
        self.since_ms = system.now_ms()
        self.closing = self.dead = False
        greeting = [(wire.F_VERSION, wire.VERSION), (wire.NONCE, self.session.nonce), (wire.INSTANCE, agent.instance)]
        greeting += [(wire.F_FRAME_LIMIT, wire.FRAME_LIMIT), (wire.IMPLEMENTATION, b"python")]
        greeting.append((wire.FACTS, agent.facts))
        self.output += self.session.seal(wire.HELLO, 0, wire.OK, wire.join_fields(greeting))

    def on_readable(self, _):
        """Take what came."""
        try:
            data = os.read(self.reading, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.dead = True
            return
        self.input += data
        self.take_frames()

    def is_full(self):
        """Return whether the peer should read first."""
        return len(self.output) >= OUTPUT_MOST

    def take_frames(self):
        """Take the whole frames that have come."""
        while not (self.closing or self.dead or self.is_full()):
            limit = wire.FRAME_LIMIT if self.session.trusted else wire.STRANGER_LIMIT
            try:
                found = wire.read_frame(self.input, limit)
            except wire.MalformedError as error:
                self.refuse(error.args[0], wire.MALFORMED)
                return
            except wire.TooLargeError as error:
                self.refuse(error.args[0], wire.TOO_LARGE)
                return
            if found is None:
                return
            frame, size = found
            del self.input[:size]
            self.take(frame)

    def take(self, frame):
        """Judge a frame, and perform it."""
        joins, status = self.session.judge(frame, system.now_ms())
        if status != wire.OK:
            self.refuse(frame, status)
        elif joins:
            self.agent.supersede_others(self)
            Address(self, frame).reply(wire.OK, [])
        else:
            self.agent.perform(Address(self, frame), frame)

    def refuse(self, frame, status):
        """Answer once more, and close."""
        frame.fields = b""
        fields = [(wire.MESSAGE, b"refused: the connection is closed")]
        if status == wire.HELD:
            fields = [(wire.CLAIM, self.agent.claim.name)]
        Address(self, frame).reply(status, fields)
        self.closing = True

    def send(self, _=0):
        """Send what the peer takes."""
        while self.output and not self.dead:
            try:
                count = os.write(self.writing, self.output[:READ_SIZE])
            except BlockingIOError:
                return
            except OSError:
                self.dead = True
                return
            del self.output[:count]

    def tend(self):
        """Go on with what waits, and watch for what is awaited."""
        loop = self.agent.loop
        self.take_frames()
        self.send()
        strange = not self.session.trusted and not self.lasting
        late = strange and system.now_ms() >= self.since_ms + STRANGER_MS
        self.dead = self.dead or late or (self.closing and not self.output)
        if self.dead:
            return
        if self.closing or self.is_full():
            loop.ignore(self.reading)
        elif self.reading not in loop.watchers:
            loop.watch(self.reading, select.EPOLLIN, self.on_readable)
        if not self.output:
            loop.ignore(self.writing)
        elif self.writing not in loop.watchers:
            loop.watch(self.writing, select.EPOLLOUT, self.send)

    def close(self):
        """Close both descriptors."""
        for fd in (self.reading, self.writing):
            with contextlib.suppress(OSError):
                self.agent.loop.close(fd)
