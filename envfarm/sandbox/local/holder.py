"""Runs beside the driver, never in it: `keeper` forks one holder per lease, a holder starts the lease's jail.

Standard library only; started by path with ``python -I -S``, so it may import nothing of envfarm. Single-threaded,
since a process with threads cannot make a user namespace.

A spare holder stands ready in namespaces of its own, so that a jail waits for a message and not for the kernel.

A jail is one bubblewrap whose first process is the agent; the driver speaks with that through a socket of its own and
with the holder about beginning, folders and end. bubblewrap is spawned (not forked: that costs a millisecond), and it
waits on a pipe until the process that will become the agent has its control groups. It is not known then what the
lease will ask for: its folders are mounted when they are named (see `box_mounts`).

Ownership: a holder owns a mount namespace with one tmpfs (all that the lease writes) and overlays on it, namespaces of
host name, IPC and (unless the lease has the network) network, and is the first process of a process namespace. The
jail shares them but for mounts and processes: making a network namespace is half of what a jail costs.
Nothing of the mounts is visible outside and the kernel kills all processes of the namespace with the first one, so
nothing is left when the holder ends, however it ends. A holder ends when its socket does, which is when the driver
leaves the lease or dies, and when the jail has ended. bubblewrap's ``--die-with-parent`` alone would not do: a jail
whose bubblewrap is still setting itself up would outlive a holder that is killed.
"""

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import time

from box_mounts import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_REC, MS_SLAVE, BoxMounts, check, libc, mount

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
HOST_NAME = "envfarm"
MNT_DETACH = 2
MAXIMUM_MESSAGE = 1 << 20
MAXIMUM_DESCRIPTORS = 8
SHORTAGES = {errno.EAGAIN, errno.ENOMEM}
UNCHANGEABLE = {signal.SIGKILL, signal.SIGSTOP}


def receive(channel):
    """Return a message and its descriptors, which no program inherits by itself."""
    data, descriptors, _, _ = socket.recv_fds(channel, MAXIMUM_MESSAGE, MAXIMUM_DESCRIPTORS)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 -- positional only
    return data, descriptors


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


class Jail:
    """The jail of a lease: bubblewrap, and the agent, which is the first process inside."""

    def __init__(self, spec):
        """Take the lease's specification; nothing runs yet."""
        self.argv = spec["argv"]
        self.agent = spec["agent"]
        self.join = [path for path in spec["join"] if not path.endswith("/tasks")]
        self.joins_itself = [path for path in spec["join"] if path.endswith("/tasks")]
        self.outer = self.inner = None
        self.status = self.go = None
        self.said = b""
        self.complaint = os.memfd_create("envfarm", os.MFD_CLOEXEC)
        self.error = None

    def spawn(self, wire):
        """Start bubblewrap, whose agent speaks through `wire`."""
        self.status, status = os.pipe()
        go, self.go = os.pipe()
        try:
            moves = [(wire, 0), (wire, 1), (self.complaint, 2), (status, 3), (go, 4)]
            words = [self.argv[0], "--json-status-fd", "3", "--block-fd", "4", *self.argv[1:]]
            if self.joins_itself:
                words = [self.agent, "--join", *self.joins_itself, "--", *words]
            actions = [(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in moves]
            self.outer = os.posix_spawn(
                words[0],
                words,
                {},
                file_actions=actions,
                setsigmask=(),
                setsigdef=signal.valid_signals() - UNCHANGEABLE,
            )
        finally:
            os.close(status)
            os.close(go)
            os.close(wire)

    def hear(self):
        """Take what bubblewrap says of itself; false at the end of it."""
        data = os.read(self.status, 4096)
        self.said += data
        *lines, self.said = self.said.split(b"\n")
        for line in lines:
            self.inner = json.loads(line).get("child-pid", self.inner)
            if self.inner is not None and self.go is not None:
                self.bound()
        return bool(data)

    def bound(self):
        """Put the first process of the jail, which waits for it, into its groups, and let it go on."""
        try:
            for path in self.join:
                with open(path, "w") as file:
                    file.write(str(self.inner))
            os.write(self.go, b"x")
        except ProcessLookupError:
            return  # killed meanwhile
        except OSError as error:
            self.error = f"it could not be bounded: {error}"
            self.kill()
        finally:
            os.close(self.go)
            self.go = None

    def kill(self):
        """End the jail; the kernel takes all of it with its first process."""
        for pid in (self.outer, self.inner):
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def wait(self):
        """Wait until bubblewrap and the first process inside are gone."""
        for pid in (self.outer, self.inner):
            if pid is not None:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)
        self.outer = None

    def reason(self, status):
        """Return in a line why the jail ended, for a status as wait(2) gives it."""
        if self.error is not None:
            return self.error
        size = os.lseek(self.complaint, 0, os.SEEK_END)
        words = os.pread(self.complaint, 500, max(size - 500, 0)).decode("utf-8", "replace").strip()
        if words:
            return words
        if os.WIFSIGNALED(status):
            return f"bubblewrap was killed by signal {os.WTERMSIG(status)}"
        return f"the agent ended with {os.WEXITSTATUS(status)}"


class Holder:
    """One lease."""

    def __init__(self, channel, jail, mounts):
        """Take the socket to the driver, the jail, which runs, and what it sees."""
        self.channel = channel
        self.jail = jail
        self.mounts = mounts

    def serve(self):
        """Do what the driver asks, until its end of the channel is closed or the jail has ended."""
        poll = select.poll()
        ended = os.pidfd_open(self.jail.outer)
        for descriptor in (self.channel.fileno(), self.jail.status, ended):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self.jail.status in ready and not self.jail.hear():
                poll.unregister(self.jail.status)
            if self.channel.fileno() in ready:
                data, _ = receive(self.channel)
                if not data:
                    return
                self.fill(json.loads(data))
            if ended in ready:
                _, status = os.waitpid(self.jail.outer, 0)
                self.jail.outer = None
                tell(self.channel, {"ended": self.jail.reason(status)})
                return

    def fill(self, wish):
        """Bound the box and let the jail see the lease's folders."""
        try:
            self.mounts.bound(wish["disk_bytes"], wish["inodes"])
            for source, target, access in wish["folders"]:
                self.mounts.show(source, target, access)
        except OSError as error:
            tell(self.channel, {"error": str(error)})
        else:
            tell(self.channel, {"filled": True})

    def end(self, spec):
        """Kill what runs, wait for it, remove the lease's groups, and tell the driver by the end of the channel."""
        self.jail.kill()
        self.jail.wait()
        kill_orphans(set())
        libc.umount2(os.fsencode(spec["box"]), MNT_DETACH)
        for folder in spec["cgroups"]:
            remove_cgroup(folder)
        self.channel.close()  # nothing is left of the lease but this process, which is about to exit


def tell(channel, message):
    """Send one message; a driver that is gone is told by the end of the socket."""
    with contextlib.suppress(OSError):
        channel.send(json.dumps(message).encode())


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
    channel = failure = mounts = None
    forbidden = True
    spec = {"cgroups": ()}
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            enter_namespaces(networked)
            forbidden = False
            mounts = BoxMounts(box)
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
        if spec["disk_bytes"]:
            mounts.bound(spec["disk_bytes"], spec["inodes"])
        for source in spec["copy_on_write"]:
            mounts.copy(source)
        holder = Holder(channel, Jail(spec), mounts)
        try:
            holder.jail.spawn(descriptors[1])
            tell(channel, {"ready": True})
            holder.serve()
        finally:
            holder.end(spec)
        code = 0
    except OSError as error:
        if channel is not None:
            tell(channel, {"error": str(error), "forbidden": forbidden})
        for folder in spec["cgroups"]:
            remove_cgroup(folder)
    finally:
        os._exit(code)
