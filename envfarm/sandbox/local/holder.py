"""Runs beside the driver, never in it: `keeper` forks one holder per lease, a holder starts the lease's commands.

Standard library only; started by path with ``python -I -S``, so it may import nothing of envfarm. Single-threaded,
since a process with threads cannot make a user namespace.

A spare holder stands ready in namespaces of its own, so that a lease waits for a message and not for the kernel.

A command is spawned (not forked: that costs a millisecond), and bubblewrap waits on a pipe until the process that will
become the sandbox's first has its limits and groups. The holder adopts that process when bubblewrap ends, kills what
is left of it, and answers only when the last process of the command is gone: so use is told for the whole tree.

Ownership: a holder owns a mount namespace with one tmpfs (all that the lease writes) and overlays on it, namespaces of
host name, IPC and (unless the lease has the network) network, and is the first process of a process namespace. The
lease's commands share them but for mounts and processes: making a network namespace is half of what a jail costs.
Nothing of the mounts is visible outside and the kernel kills all processes of the namespace with the first one, so
nothing is left when the holder ends, however it ends. A holder ends when its socket does, which is when the driver
leaves the lease or dies. bubblewrap's ``--die-with-parent`` alone would not do: a command whose bubblewrap is still
setting itself up would outlive a holder that is killed.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import time

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
HOST_NAME = "envfarm"
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_REC, MS_SLAVE = 2, 4, 8, 0x20, 0x4000, 1 << 19
MNT_DETACH = 2
MAXIMUM_MESSAGE = 1 << 20
MAXIMUM_DESCRIPTORS = 8
SHORTAGES = {errno.EAGAIN, errno.ENOMEM}
UNCHANGEABLE = {signal.SIGKILL, signal.SIGSTOP}
JOIN_BY_ITSELF = """count=$1; shift
while [ "$count" -gt 0 ]; do echo 0 >"$1" || exit 71; shift; count=$((count - 1)); done
exec "$@"
"""
"""A shell program that joins groups and becomes the program behind them; it runs nothing that it could not bound."""
libc = ctypes.CDLL(None, use_errno=True)


def check(result, what):
    """Raise OSError where a call of the C library failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def receive(channel):
    """Return a message and its descriptors, which no program inherits by itself."""
    data, descriptors, _, _ = socket.recv_fds(channel, MAXIMUM_MESSAGE, MAXIMUM_DESCRIPTORS)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 -- positional only
    return data, descriptors


def mount(source, target, kind, flags, options):
    """Call mount(2)."""
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    check(libc.mount(*arguments, ctypes.c_ulong(flags), os.fsencode(options) if options else None), f"mount {target}")


def enter_namespaces(networked):
    """Enter namespaces of our own, as their root; outside we are who we were. With the network, that is the host's.

    Who returns is the first process of the process namespace, a child of the caller, which has ended.
    """
    user, group = os.geteuid(), os.getegid()
    own = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC
    check(libc.unshare(own if networked else own | CLONE_NEWNET), "unshare")
    for path, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{path}", "w") as file:
            file.write(text)
    socket.sethostname(HOST_NAME)
    if not networked:
        raise_loopback()
    if os.fork() != 0:
        os._exit(0)
    mount(None, "/", None, MS_REC | MS_SLAVE, None)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None)


def raise_loopback():
    """Switch on the loopback interface of a new network namespace: it has no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sh22x", b"lo", 0))
        (flags,) = struct.unpack_from("h", request, 16)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))


def open_box(box):
    """Mount the tmpfs that all writes go to, still without its bounds."""
    mount("envfarm", box, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700")
    for name, mode in (("tmp", 0o1777), ("shm", 0o1777), ("home", 0o700), ("empty", 0o755)):
        os.mkdir(f"{box}/{name}")
        os.chmod(f"{box}/{name}", mode)


def build_box(spec):
    """Bound and fill the box, and return which folders were copied because overlays are refused here."""
    box = spec["box"]
    bounds = f"size={spec['disk_bytes']},nr_inodes={spec['inodes']}"
    mount("envfarm", box, "tmpfs", MS_REMOUNT | MS_NOSUID | MS_NODEV, bounds)
    copied = []
    for number, source in enumerate(spec["copy_on_write"]):
        merged, upper, work = (f"{box}/{part}{number}" for part in ("merged", "upper", "work"))
        for folder in (merged, upper, work):
            os.mkdir(folder, 0o755)
        try:
            overlay(source, upper, work, merged)
        except OSError:
            os.rmdir(merged)
            shutil.copytree(source, merged, symlinks=True)
            copied.append(source)
    return copied


def overlay(lower, upper, work, merged):
    """Mount an overlay that writes to `upper`."""
    escaped = lower.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
    options = f"lowerdir={escaped},upperdir={upper},workdir={work},userxattr"
    mount("overlay", merged, "overlay", MS_NOSUID | MS_NODEV, options)


class Command:
    """One command: bubblewrap, and the first process of the sandbox that it made."""

    def __init__(self, message):
        """Take what the driver asked for; nothing runs yet."""
        self.number = message["id"]
        self.rlimits = message["rlimits"]
        self.join = [path for path in message["join"] if not path.endswith("/tasks")]
        self.joins_itself = [path for path in message["join"] if path.endswith("/tasks")]
        self.started = time.monotonic()
        self.outer = self.inner = None
        self.status = self.go = None
        self.said = b""
        self.exit_code = self.error = None
        self.outer_status = 0
        self.outer_usage = None

    def spawn(self, argv, descriptors):
        """Start bubblewrap; descriptors become 0, 1, 2 and, for a report, 3; the two after them are ours."""
        self.status, status = os.pipe()
        go, self.go = os.pipe()
        own = len(descriptors)
        try:
            moves = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate([*descriptors, status, go])]
            words = [argv[0], "--json-status-fd", str(own), "--block-fd", str(own + 1), *argv[1:]]
            if self.joins_itself:
                groups = [str(len(self.joins_itself)), *self.joins_itself]
                words = ["/bin/sh", "-c", JOIN_BY_ITSELF, "sh", *groups, *words]
            self.outer = os.posix_spawn(
                words[0], words, {}, file_actions=moves, setsigmask=(), setsigdef=signal.valid_signals() - UNCHANGEABLE
            )
        finally:
            os.close(status)
            os.close(go)
            if self.outer is None:
                self.close()

    def hear(self):
        """Take what bubblewrap says of itself; false at the end of it."""
        data = os.read(self.status, 4096)
        self.said += data
        *lines, self.said = self.said.split(b"\n")
        for line in lines:
            fact = json.loads(line)
            self.exit_code = fact.get("exit-code", self.exit_code)
            if "child-pid" in fact:
                self.inner = fact["child-pid"]
                self.bound()
        return bool(data)

    def bound(self):
        """Bound the first process of the sandbox, which waits for it, and let it go on."""
        try:
            for name, value in self.rlimits.items():
                kind = getattr(resource, name)
                _, hard = resource.prlimit(self.inner, kind)
                bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
                resource.prlimit(self.inner, kind, (bound, bound))
            for path in self.join:
                with open(path, "w") as file:
                    file.write(str(self.inner))
            os.write(self.go, b"x")
        except ProcessLookupError:
            return  # killed meanwhile
        except OSError as error:
            self.error = f"the command could not be bounded: {error}"
            self.kill()

    def kill(self):
        """End the command; the kernel takes the whole sandbox with its first process."""
        for pid in (self.outer, self.inner):
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def adopted(self):
        """Return whether the sandbox's first process is now a child of ours, to be waited for."""
        if self.inner is None:
            return False
        try:
            os.waitid(os.P_PID, self.inner, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def close(self):
        """Close what is open of its pipes."""
        for descriptor in (self.status, self.go):
            if descriptor is not None:
                os.close(descriptor)
        self.status = self.go = None


class Holder:
    """One lease."""

    def __init__(self, channel, spec):
        """Take the socket to the driver and the lease's specification."""
        self.channel = channel
        self.spec = spec
        self.commands = {}
        self.poll = select.poll()
        self.react = {}

    def watch(self, descriptor, reaction):
        """Call `reaction` whenever the descriptor is readable or at its end."""
        self.react[descriptor] = reaction
        self.poll.register(descriptor, select.POLLIN)

    def forget(self, descriptor):
        """End a watch."""
        del self.react[descriptor]
        self.poll.unregister(descriptor)

    def serve(self):
        """Do what the driver asks for until its end of the socket is closed."""
        self.watch(self.channel.fileno(), self.take)
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor in self.react and self.react[descriptor]() is False:
                    return

    def take(self):
        """Take one message; false at the end of the socket."""
        data, descriptors = receive(self.channel)
        if not data:
            return False
        message = json.loads(data)
        if message["do"] == "large":
            with open(descriptors.pop(), "rb") as file:
                file.seek(0)
                message = json.load(file)
        if message["do"] == "exec":
            self.start(message, descriptors)
        elif message["do"] == "kill" and message["id"] in self.commands:
            self.commands[message["id"]].kill()
        return True

    def start(self, message, descriptors):
        """Start a command."""
        command = Command(message)
        try:
            command.spawn(message["argv"], descriptors)
        except OSError as error:
            self.answer({"id": command.number, "error": f"bubblewrap could not be started: {error}"})
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self.commands[command.number] = command
        self.watch(command.status, lambda: self.hear(command))
        self.watch_end(command.outer, lambda: self.reap_outer(command))

    def hear(self, command):
        """Take what bubblewrap says of a command."""
        if not command.hear():
            self.forget(command.status)
            os.close(command.status)
            command.status = None

    def watch_end(self, pid, reaction):
        """Call `reaction` once, when a child has ended."""
        descriptor = os.pidfd_open(pid)

        def end():
            self.forget(descriptor)
            os.close(descriptor)
            reaction()

        self.watch(descriptor, end)

    def reap_outer(self, command):
        """Go on to the sandbox's first process once bubblewrap has ended."""
        _, command.outer_status, command.outer_usage = os.wait4(command.outer, 0)
        command.outer = None
        while command.status is not None:
            self.hear(command)
        if command.adopted():
            command.kill()
            self.watch_end(command.inner, lambda: self.finish(command, os.wait4(command.inner, 0)[2]))
        else:
            kill_orphans(self.known())
            self.finish(command, command.outer_usage)

    def finish(self, command, usage):
        """Tell the driver how a command ended."""
        del self.commands[command.number]
        command.close()
        outer = command.outer_usage
        self.answer(
            {
                "id": command.number,
                "status": command.outer_status,
                "exit_code": command.exit_code,
                "cpu_seconds": usage.ru_utime + usage.ru_stime + (outer.ru_utime + outer.ru_stime) * (usage != outer),
                "peak_memory_bytes": usage.ru_maxrss * 1024,
                "wall_seconds": time.monotonic() - command.started,
                **({"error": command.error} if command.error else {}),
            }
        )

    def answer(self, message):
        """Send one message; a driver that is gone is told by the end of the socket."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.channel.send(json.dumps(message).encode())

    def known(self):
        """Return the processes that belong to a command."""
        return {pid for command in self.commands.values() for pid in (command.outer, command.inner)}

    def end(self):
        """Kill what runs, wait for it, and remove the lease's groups."""
        for command in self.commands.values():
            command.kill()
        for command in self.commands.values():
            for pid in (command.outer, command.inner):
                if pid is not None:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, 0)
        kill_orphans(set())
        libc.umount2(os.fsencode(self.spec["box"]), MNT_DETACH)
        for folder in self.spec["cgroups"]:
            remove_cgroup(folder)


def kill_orphans(known):
    """Kill children that no command knows: a sandbox whose bubblewrap was killed before it told of it."""
    with contextlib.suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children") as file:
        for word in file.read().split():
            if int(word) not in known:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(word), signal.SIGKILL)


def remove_cgroup(folder):
    """Remove a control group; its last processes may take a moment to be gone."""
    pause = 0.0002
    for _ in range(20):
        try:
            os.rmdir(folder)
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
            time.sleep(pause)
            pause = min(2 * pause, 0.5)
        else:
            return


def run_holder(handover, box, *, networked):
    """Be a holder, from the namespaces to the end of the one lease that is handed over; never returns."""
    code = 1
    channel = failure = None
    forbidden = True
    spec = {"cgroups": ()}
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            enter_namespaces(networked)
            forbidden = False
            open_box(box)
        except OSError as error:
            forbidden = forbidden and error.errno not in SHORTAGES
            failure = error
        data, descriptors = receive(handover)
        handover.close()
        if not data:
            os._exit(0)
        channel = socket.socket(fileno=descriptors[0])
        spec = json.loads(data)
        if failure is not None:
            raise failure
        copied = build_box(spec)
        channel.send(json.dumps({"ready": True, "copied": copied}).encode())
        holder = Holder(channel, spec)
        try:
            holder.serve()
        finally:
            holder.end()
        code = 0
    except OSError as error:
        if channel is not None:
            with contextlib.suppress(OSError):
                channel.send(json.dumps({"error": str(error), "forbidden": forbidden}).encode())
        for folder in spec["cgroups"]:
            remove_cgroup(folder)
    finally:
        os._exit(code)
