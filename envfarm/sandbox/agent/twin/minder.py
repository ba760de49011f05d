"""The minder: one process per job, between the agent and the program; see source/minder.h for what it is for."""

import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import time

import system

ORDER = struct.Struct("=ii")  # signal, whether the whole tree
REPORT = struct.Struct("=iiiiQQQI")  # code, signal, stage, errno, cpu us, peak bytes, wall us, flags
FAILURE = struct.Struct("=ii")
TIMED_OUT, OUT_OF_MEMORY, LEFT, UNWATCHED, MACHINE_MEMORY = 1, 2, 4, 8, 16
PREPARE, LIMITS, IDENTITY, FOLDER, PROGRAM = 1, 2, 3, 4, 5
MEMORY_LOOK_MS, KILL_AGAIN_MS, GIVE_UP_MS = 25, 5, 5000


def close_others(kept):
    """Close all descriptors but these: other jobs' pipes would never end while a copy is open here."""
    most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 20)
    with contextlib.suppress(OSError):
        most = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    before = -1
    for fd in sorted(kept):
        os.closerange(before + 1, fd)
        before = fd
    os.closerange(before + 1, most)


def set_limits(plan):
    """Bound the process that becomes the program."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(plan.open_files_soft, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for kind, bound in plan.limits:
        _, hard = resource.getrlimit(kind)
        value = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (value, value))


def set_identity(plan):
    """Become the user who was asked for."""
    if plan.identity is not None:
        user, group = plan.identity
        if plan.groups or os.getuid() != user or os.getgid() != group or os.geteuid() == 0:
            os.setgroups(plan.groups)
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    if plan.no_new_privileges and not system.prctl(system.NO_NEW_PRIVILEGES, 1):
        raise OSError(1, "prctl")


def run_program(plan):
    """Replace this process by the program; raises the most telling OSError."""
    name = plan.arguments[0]
    if b"/" in name:
        os.execve(name, plan.arguments, plan.variables)
    refused = OSError(2, "not found")
    for folder in plan.path.split(b":"):
        try:
            os.execve(folder + b"/" + name if folder else name, plan.arguments, plan.variables)
        except OSError as error:
            if error.errno not in (2, 20):
                refused = error
                if error.errno != 13:
                    break
    raise refused


def become(plan, ends, failure):
    """Be the child that becomes the program; what fails goes down the pipe `failure`."""
    stage = PREPARE
    try:
        os.setsid()
        for number in range(1, signal.NSIG):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.umask(0o022)
        for number in range(10):
            if number in ends:
                os.dup2(ends[number], number)
            else:
                with contextlib.suppress(OSError):
                    os.close(number)
        stage = LIMITS
        set_limits(plan)
        stage = IDENTITY
        set_identity(plan)
        stage = FOLDER
        os.chdir(plan.folder)
        stage = PROGRAM
        run_program(plan)
    except OSError as error:
        os.write(failure, FAILURE.pack(stage, error.errno or 5))
    except ValueError:
        os.write(failure, FAILURE.pack(stage, 22))
    finally:
        os._exit(127)


class Minder:
    """Watches one job's tree."""

    def __init__(self, plan, control):
        """Take what was asked for and the socket to the agent."""
        self.plan = plan
        self.control = control
        self.program = 0
        self.ended = self.reported = self.none_left = self.cut = False
        self.status = self.flags = 0
        self.killing_since = None
        self.started = time.monotonic()
        self.deadline = system.now_ms() + plan.timeout_ms if plan.timeout_ms else None
        self.wake, wakes = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wakes, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes)

    def start(self, ends):
        """Start the program; returns what failed, or None."""
        reading, writing = os.pipe()
        low, writing = writing, fcntl.fcntl(writing, fcntl.F_DUPFD_CLOEXEC, 16)  # above those that the program gets
        os.close(low)
        self.program = os.fork()
        if self.program == 0:
            become(self.plan, ends, writing)
        os.close(writing)
        for fd in ends.values():
            os.close(fd)
        told = os.read(reading, FAILURE.size)
        os.close(reading)
        if not told:
            return None
        os.waitpid(self.program, 0)
        return FAILURE.unpack(told)

    def reap(self):
        """Wait for whoever has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.none_left = True
                return
            if pid == 0:
                return
            if pid == self.program:
                self.ended, self.status = True, status

    def kill(self):
        """Kill the tree; to be called again until nothing is left."""
        if self.killing_since is None:
            self.killing_since = system.now_ms()
        if not self.ended:
            with contextlib.suppress(OSError):
                os.killpg(self.program, signal.SIGKILL)
            system.send(self.program, signal.SIGKILL)
        system.kill_tree(os.getpid())

    def report(self, failure):
        """Tell the agent how the program ended."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        code, number, (stage, error) = -1, 0, failure or (0, 0)
        if failure is None and os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
        elif failure is None:
            code = os.WEXITSTATUS(self.status)
        cpu = int((usage.ru_utime + usage.ru_stime) * 1000000)
        wall = int((time.monotonic() - self.started) * 1000000)
        flags = self.flags | (0 if self.none_left else LEFT)
        self.reported = True
        try:
            self.control.send(REPORT.pack(code, number, stage, error, cpu, usage.ru_maxrss * 1024, wall, flags))
        except OSError:
            self.cut = True

    def obey(self):
        """Take an order of the agent."""
        try:
            data = self.control.recv(ORDER.size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if len(data) != ORDER.size:
            self.cut = True
            self.kill()
            return
        number, tree = ORDER.unpack(data)
        if tree and number == signal.SIGKILL:
            self.kill()
        elif tree:
            system.signal_tree(os.getpid(), number)
        elif not self.ended:
            system.send(self.program, number)

    def look_at_bounds(self):
        """End a program that hit a bound."""
        if self.ended or self.killing_since is not None:
            return
        if self.deadline is not None and system.now_ms() >= self.deadline:
            self.flags |= TIMED_OUT
            self.kill()
        elif self.plan.memory_bytes and system.tree_memory_bytes(os.getpid()) > self.plan.memory_bytes:
            self.flags |= OUT_OF_MEMORY
            self.kill()

    def patience_ms(self):
        """Return how long to wait for something to happen; None for ever."""
        if self.killing_since is not None:
            return KILL_AGAIN_MS
        if self.ended:
            return None
        left = None if self.deadline is None else max(self.deadline - system.now_ms(), 0)
        if self.plan.memory_bytes:
            return MEMORY_LOOK_MS if left is None else min(left, MEMORY_LOOK_MS)
        return left

    def is_done(self):
        """Return whether nothing is left to do; tells the end when it is time."""
        killing = self.killing_since is not None
        gave_up = killing and system.now_ms() - self.killing_since > GIVE_UP_MS
        told = self.none_left or gave_up or (not killing and not self.plan.leftovers_end)
        if self.ended and not self.reported:
            if told:
                self.report(None)
            elif not killing:
                self.kill()
        return self.none_left or (gave_up and (self.reported or self.cut))

    def mind(self):
        """Watch until the tree is gone."""
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        poll.register(self.control, select.POLLIN)
        while True:
            self.reap()
            if self.is_done():
                return
            if self.cut:
                with contextlib.suppress(KeyError):
                    poll.unregister(self.control)
            for fd, _ in poll.poll(self.patience_ms()):
                if fd == self.wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.wake, 4096)
                elif not self.cut:
                    self.obey()
            self.look_at_bounds()
            if self.killing_since is not None and not self.none_left:
                self.kill()


def run_minder(plan, ends, control):
    """Be the minder, in a forked child; never returns."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        system.prctl(system.SUBREAPER, 1)
        close_others({2, control.fileno()} | set(ends.values()))
        minder = Minder(plan, control)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        failure = minder.start(ends)
        if failure is not None:
            minder.none_left = True
            minder.report(failure)
        else:
            minder.mind()
    finally:
        os._exit(0)
