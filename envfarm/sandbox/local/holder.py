"""Runs beside the driver, never in it: `keeper` forks one holder per lease, a holder starts the lease's commands.

Standard library only; started by path with ``python -I -S``, so it may import nothing of envfarm. Single-threaded,
since a process with threads cannot make a user namespace.

Ownership: a holder owns a mount namespace with one tmpfs (all that the lease writes) and overlays on it. Nothing of it
is visible outside, so nothing is left when the holder ends, however it ends. A holder ends when its socket does, which
is when the driver leaves the lease or dies. Its commands die with it (bubblewrap's ``--die-with-parent``).
"""

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
import time

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 0x4000, 1 << 18
MNT_DETACH = 2
MAXIMUM_MESSAGE = 1 << 20
MAXIMUM_DESCRIPTORS = 8
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source, target, kind, flags, options):
    """Call mount(2)."""
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), os.fsencode(options) if options else None), f"mount {target}")


def enter_namespaces():
    """Enter a user and a mount namespace of our own, as their root; outside we are who we were."""
    user, group = os.geteuid(), os.getegid()
    _check(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare")
    for path, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{path}", "w") as file:
            file.write(text)
    mount(None, "/", None, MS_REC | MS_PRIVATE, None)


def build_box(spec):
    """Mount what the lease writes to, and return which folders were copied because overlays are refused here."""
    box = spec["box"]
    mount(
        "envfarm", box, "tmpfs", MS_NOSUID | MS_NODEV, f"size={spec['disk_bytes']},mode=0700,nr_inodes={spec['inodes']}"
    )
    for name in ("tmp", "shm", "home", "empty"):
        os.mkdir(f"{box}/{name}", 0o1777 if name in {"tmp", "shm"} else 0o700)
    os.chmod(f"{box}/tmp", 0o1777)
    os.chmod(f"{box}/shm", 0o1777)
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


class Holder:
    """One lease."""

    def __init__(self, channel, spec):
        """Take the socket to the driver and the lease's specification."""
        self.channel = channel
        self.spec = spec
        self.running = {}
        self.poll = select.poll()

    def serve(self):
        """Do what the driver asks for until its end of the socket is closed."""
        self.poll.register(self.channel, select.POLLIN)
        alive = True
        while alive:
            for descriptor, _ in self.poll.poll():
                if descriptor == self.channel.fileno():
                    alive = self.take()
                    if not alive:
                        break
                else:
                    self.reap(descriptor)

    def take(self):
        """Take one message; false at the end of the socket."""
        data, descriptors, _, _ = socket.recv_fds(self.channel, MAXIMUM_MESSAGE, MAXIMUM_DESCRIPTORS)
        if not data:
            return False
        message = json.loads(data)
        if message["do"] == "exec":
            self.start(message, descriptors)
        elif message["do"] == "kill":
            for _, pid, number in self.running.values():
                if number == message["id"]:
                    os.kill(pid, signal.SIGKILL)
        return True

    def start(self, message, descriptors):
        """Start a command; its descriptors become 0, 1, 2 and, for a report, 3."""
        try:
            pid = os.fork()
        except OSError as error:
            for descriptor in descriptors:
                os.close(descriptor)
            self.answer({"id": message["id"], "error": f"fork: {error}"})
            return
        if pid == 0:
            _become_command(message, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        watch = os.pidfd_open(pid)
        self.running[watch] = (time.monotonic(), pid, message["id"])
        self.poll.register(watch, select.POLLIN)

    def reap(self, watch):
        """Tell the driver how a command ended."""
        started, pid, number = self.running.pop(watch)
        self.poll.unregister(watch)
        os.close(watch)
        _, status, usage = os.wait4(pid, 0)
        self.answer(
            {
                "id": number,
                "status": status,
                "cpu_seconds": usage.ru_utime + usage.ru_stime,
                "peak_memory_bytes": usage.ru_maxrss * 1024,
                "wall_seconds": time.monotonic() - started,
            }
        )

    def answer(self, message):
        """Send one message; a driver that is gone is told by the end of the socket."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.channel.send(json.dumps(message).encode())

    def end(self):
        """Kill what runs, wait for it, and remove the lease's cgroups."""
        for _, pid, _ in self.running.values():
            os.kill(pid, signal.SIGKILL)
        for _, pid, _ in self.running.values():
            os.waitpid(pid, 0)
        _libc.umount2(os.fsencode(self.spec["box"]), MNT_DETACH)
        for folder in self.spec["cgroups"]:
            remove_cgroup(folder)


def remove_cgroup(folder):
    """Remove a control group; its last processes may take a moment to be gone."""
    for _ in range(200):
        try:
            os.rmdir(folder)
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
            time.sleep(0.01)
        else:
            return


def _become_command(message, descriptors):
    """Become the command; never returns."""
    try:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        for path in message["join"]:
            with open(path, "w") as file:
                file.write("0")
        for name, value in message["rlimits"].items():
            kind = getattr(resource, name)
            _, hard = resource.getrlimit(kind)
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (bound, bound))
        moved = [os.dup(descriptor) if descriptor < len(descriptors) else descriptor for descriptor in descriptors]
        for number, descriptor in enumerate(moved):
            os.dup2(descriptor, number, inheritable=True)
        os.closerange(len(moved), 4096)
        os.execv(message["argv"][0], message["argv"])  # noqa: S606 -- no shell is the safe form
    except BaseException as error:  # noqa: BLE001 -- a forked child must not return into its parent's loop
        os.write(2, f"envfarm: {error}\n".encode())
    finally:
        os._exit(125)


def run_holder(channel, spec):
    """Be the holder of one lease, from the namespaces to the end; never returns."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        enter_namespaces()
        copied = build_box(spec)
        channel.send(json.dumps({"ready": True, "copied": copied}).encode())
        holder = Holder(channel, spec)
        try:
            holder.serve()
        finally:
            holder.end()
        code = 0
    except OSError as error:
        with contextlib.suppress(OSError):
            channel.send(json.dumps({"error": str(error), "errno": error.errno}).encode())
        for folder in spec["cgroups"]:
            remove_cgroup(folder)
    finally:
        sys.stderr.flush()
        os._exit(code)
