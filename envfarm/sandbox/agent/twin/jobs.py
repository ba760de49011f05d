"""Jobs: what was asked for, their streams, and who waits for them; `table` holds them."""

import contextlib
import fcntl
import os
import select
import signal
import socket

import minder
import system
import wire
from output import Output

WAITS_MOST, LAST_READS, CHUNK = 16, 32, 1 << 16
INLINE_MOST = READ_MOST = KEPT = 1 << 20
KEPT_MOST = 64 << 20
LOWEST = 16  # descriptors below are those that jobs may want


class Plan:
    """What a START asks for, as the child that becomes the program needs it."""

    def __init__(self, request, open_files_soft):
        """Take the request; raises MalformedError."""
        self.arguments = request.each(wire.ARGUMENT)
        pairs = [value.partition(b"=")[::2] for value in request.each(wire.VARIABLE)]
        self.variables = dict(pairs)
        self.path = self.variables.get(b"PATH", b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        self.folder = request.get(wire.FOLDER, b"/")
        self.identity = (request.number(wire.UID), request.number(wire.GID)) if wire.UID in request else None
        self.groups = [wire.NUMBER.unpack(value)[0] for value in request.each(wire.GROUP)]
        self.limits = [wire.struct.unpack(">QQ", value) for value in request.each(wire.LIMIT)]
        self.timeout_ms = request.number(wire.TIMEOUT_MS)
        self.memory_bytes = request.number(wire.MEMORY_BYTES)
        self.leftovers_end = bool(request.number(wire.LEFTOVERS))
        self.no_new_privileges = bool(request.number(wire.NO_NEW_PRIVILEGES))
        self.open_files_soft = open_files_soft
        self.streams = {1: (KEPT, True), 2: (KEPT, True)}
        for value in request.each(wire.STREAM):
            number, kept, keep = wire.struct.unpack(">QQQ", value)
            if not 1 <= number <= 9 or kept > KEPT_MOST or keep > 1:
                raise wire.MalformedError
            self.streams[number] = (kept, keep == 0)
        counts = len(self.limits) > 16 or len(self.groups) > 64 or (self.groups and self.identity is None)
        if not self.arguments or not self.arguments[0] or counts or any(kind >= 16 for kind, _ in self.limits):
            raise wire.MalformedError


class Wait:
    """A request that is answered later."""

    def __init__(self, to, request, deadline_ms):
        """Take where the reply goes, and until when it may wait; None for ever."""
        self.to = to
        self.request = request
        self.deadline_ms = deadline_ms


def high_pipe():
    """Return a pipe whose ends lie above the descriptors that jobs want."""
    ends = os.pipe()
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LOWEST) for fd in ends]
    for fd in ends:
        os.close(fd)
    return high


class Job:
    """One program, and what the agent knows of it."""

    def __init__(self, table, name, digest):
        """Take the table that it stands in."""
        self.table = table
        self.loop = table.loop
        self.name = name
        self.digest = digest
        self.minder = 0
        self.control = None
        self.outputs = {}
        self.fds = {}  # by descriptor, while the stream is not at its end
        self.input = None
        self.input_left = b""
        self.input_taken = self.serial = 0
        self.input_ends = self.forgotten = False
        self.report = None
        self.waits = []
        table.kills.look()
        self.memory_kills = table.kills.own

    def start(self, plan):
        """Start the minder, and with it the program."""
        ends = {}
        try:
            ends[0], self.input = high_pipe()
            os.set_blocking(self.input, False)
            for number, (kept, keeps_tail) in plan.streams.items():
                self.fds[number], ends[number] = high_pipe()
                os.set_blocking(self.fds[number], False)
                self.outputs[number] = Output(kept, keeps_tail)
            self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self.minder = os.fork()
                if self.minder == 0:
                    minder.run_minder(plan, ends, theirs)
        except OSError:
            self.close()
            raise
        finally:
            for fd in ends.values():
                os.close(fd)
        for number, fd in self.fds.items():
            self.loop.watch(fd, select.EPOLLIN, lambda _, number=number: self.on_output(number))
        self.loop.watch(self.control.fileno(), select.EPOLLIN, lambda _: self.on_minder())

    def on_output(self, number):
        """Take what a stream has."""
        self.read_stream(number)
        self.answer()

    def read_stream(self, number):
        """Return whether there was something to read."""
        try:
            data = os.read(self.fds[number], CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.loop.close(self.fds.pop(number))
        elif not self.forgotten:
            self.outputs[number].add(data)
        return bool(data)

    def close_input(self):
        """End standard input."""
        self.input_left = b""
        if self.input is not None:
            self.loop.close(self.input)
            self.input = None

    def write_input(self):
        """Write what the pipe takes."""
        while self.input_left and self.input is not None:
            try:
                count = os.write(self.input, self.input_left[:CHUNK])
            except BlockingIOError:
                self.loop.watch(self.input, select.EPOLLOUT, lambda _: self.on_input())
                return
            except OSError:
                self.close_input()
                return
            self.input_left = self.input_left[count:]
        if self.input_ends:
            self.close_input()
        elif self.input is not None:
            self.loop.ignore(self.input)

    def on_input(self):
        """Go on with standard input."""
        self.write_input()
        self.answer()

    def feed(self, data, ends):
        """Give bytes to standard input."""
        self.input_ends = self.input_ends or ends
        self.input_taken += len(data)
        if self.input is not None:
            self.input_left += data
            self.write_input()

    def end(self, report):
        """Take how the program ended; what it wrote is in the pipes."""
        code, number, stage, error, cpu, peak, wall, flags = report
        for stream in list(self.fds):
            for _ in range(LAST_READS):
                if stream not in self.fds or not self.read_stream(stream):
                    break
        kills = self.table.kills
        kills.look()
        if number == signal.SIGKILL and kills.own > self.memory_kills:
            flags |= minder.OUT_OF_MEMORY
        if kills.machine:
            flags |= minder.MACHINE_MEMORY
        self.report = (code, number, stage, error, cpu, peak, wall, flags)
        self.close_input()
        self.answer()

    def on_minder(self):
        """Take the minder's report, or its end."""
        try:
            data = self.control.recv(minder.REPORT.size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if len(data) == minder.REPORT.size and self.report is None:
            self.end(minder.REPORT.unpack(data))
            return
        self.loop.forget(self.control.fileno())
        self.control.close()
        self.control = None
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.minder, 0)
        self.minder = 0
        if self.report is None:
            self.table.sweeping = True
            self.end((-1, signal.SIGKILL, 0, 0, 0, 0, 0, minder.UNWATCHED))
        for number in list(self.fds):
            if not self.read_stream(number) and number in self.fds:
                self.loop.close(self.fds.pop(number))
        self.answer()
        self.release()

    def order(self, number, tree):
        """Tell the minder to send a signal."""
        if self.control is not None:
            with contextlib.suppress(OSError):
                self.control.send(minder.ORDER.pack(number, int(tree)), socket.MSG_DONTWAIT)

    def forget(self):
        """Free what is kept, and kill what runs."""
        self.forgotten = True
        for wait in self.waits:
            wait.to.plain(wire.NO_SUCH_JOB, "the job was forgotten")
        self.waits = []
        if self.report is None:
            self.order(signal.SIGKILL, True)
        for output in self.outputs.values():
            output.drop()
        self.release()

    def release(self):
        """Leave the table when forgotten and gone."""
        if self.forgotten and self.control is None:
            self.close()
            self.table.remove(self)

    def close(self):
        """Close what is open."""
        for fd in self.fds.values():
            self.loop.close(fd)
        self.fds = {}
        self.close_input()

    def wait(self, wait):
        """Answer now, or keep for later; false where too many wait."""
        if self.try_answer(wait, wait.deadline_ms is not None and wait.deadline_ms <= system.now_ms()):
            return True
        if len(self.waits) >= WAITS_MOST:
            return False
        self.waits.append(wait)
        return True

    def answer(self):
        """Answer the waits that can be answered now."""
        now = system.now_ms()
        waits, self.waits = self.waits, []
        for wait in waits:
            if not self.try_answer(wait, wait.deadline_ms is not None and wait.deadline_ms <= now):
                self.waits.append(wait)

    def try_answer(self, wait, time_is_up):
        """Answer a wait if it can be, or if it has to be."""
        kind = wait.to.kind
        if kind == wire.STDIN:
            if self.input is not None and self.input_left:
                return False
            wait.to.reply(wire.OK, [(wire.OFFSET, self.input_taken), (wire.F_END, int(self.input is None))])
        elif kind == wire.READ:
            number = wait.request.number(wire.DESCRIPTOR)
            new = self.outputs[number].total > wait.request.number(wire.OFFSET)
            if not (new or time_is_up or self.report is not None or number not in self.fds):
                return False
            self.answer_read(wait, number)
        else:
            if self.report is None and not time_is_up:
                return False
            self.answer_state(wait)
        return True

    def answer_read(self, wait, number):
        """Answer a READ."""
        output = self.outputs[number]
        size = min(wait.request.number(wire.LENGTH), READ_MOST)
        offset, data = output.read(wait.request.number(wire.OFFSET), size)
        ended = offset + len(data) >= output.total and (self.report is not None or number not in self.fds)
        fields = [(wire.OFFSET, offset), (wire.F_DATA, data), (wire.SIZE, output.total)]
        wait.to.reply(wire.OK, [*fields, (wire.F_END, int(ended)), (wire.DROPPED, output.dropped)])

    def answer_state(self, wait):
        """Answer a START or a WAIT."""
        if self.report is None:
            wait.to.reply(wire.OK, [(wire.STATE, 0)])
            return
        code, number, stage, error, cpu, peak, wall, flags = self.report
        fields = [(wire.STATE, 1)]
        if stage:
            fields += [(wire.STAGE, stage), (wire.ERRNO, error)]
        else:
            fields.append((wire.F_SIGNAL, number) if number else (wire.CODE, code))
        fields += [(wire.CPU_US, cpu), (wire.PEAK_BYTES, peak), (wire.WALL_US, wall), (wire.FLAGS, flags)]
        room = min(wait.request.number(wire.INLINE_BYTES), INLINE_MOST, wait.to.room())
        inline = sum(output.total - output.dropped for output in self.outputs.values()) <= room
        for stream, output in sorted(self.outputs.items()):
            state = (0 if stream in self.fds else 1) | (2 if inline else 0)
            head = wire.struct.pack(">QQQQ", stream, output.total, output.dropped, state)
            fields.append((wire.OUTPUT, head + (output.kept() if inline else b"")))
        wait.to.reply(wire.OK, fields)
