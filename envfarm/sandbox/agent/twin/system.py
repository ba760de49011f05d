"""What Python does not have: a few calls of the C library, the process tree in /proc, acting as another user."""

import contextlib
import errno
import os
import signal
import time

try:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
except (ImportError, OSError):  # no ctypes, or a static interpreter: no subreaper, and no acting as others
    libc = None

SUBREAPER, DUMPABLE, NO_NEW_PRIVILEGES = 36, 4, 38
STOP_ROUNDS = 30


def now_ms():
    """Return the time of a clock that nobody sets."""
    return int(time.monotonic() * 1000)


def prctl(option, value):
    """Return whether the kernel took an option of this process."""
    return libc is not None and libc.prctl(option, value, 0, 0, 0) == 0


class Acting:
    """Acts as another user on files, without other groups, for the length of a block."""

    def __init__(self, identity):
        """Take (uid, gid), or None for the agent's own user."""
        self.identity = identity

    def __enter__(self):
        if self.identity is None:
            return
        user, group = self.identity
        if libc is None:
            raise OSError(errno.EPERM, "no ctypes")
        libc.setfsgid(group)
        libc.setfsuid(user)
        if libc.setfsuid(user) != user or libc.setfsgid(group) != group:
            self.__exit__()
            raise OSError(errno.EPERM, "not allowed")

    def __exit__(self, *_):
        if libc is not None and self.identity is not None:
            libc.setfsuid(os.geteuid())
            libc.setfsgid(os.getegid())


def sees_processes():
    """Return whether /proc is there and shows this process's namespace; another's has other numbers."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def parents():
    """Return the parent of each process that /proc shows; none where it is another namespace's."""
    found = {}
    if not sees_processes():
        return found
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/%s/stat" % name, "rb") as file:
                    found[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    return found


def descendants(root):
    """Return all that descend from a process."""
    children = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def send(pid, number):
    """Return whether a signal could be sent."""
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True


def signal_tree(root, number):
    """Send a signal to all that descend from a process; returns how many there were."""
    me = os.getpid()
    return sum(send(pid, number) for pid in descendants(root) if pid != me)


def kill_tree(root):
    """Stop all that descend from a process so that none can fork, then kill them."""
    before = -1
    for _ in range(STOP_ROUNDS):
        stopped = signal_tree(root, signal.SIGSTOP)
        if stopped == before:
            break
        before = stopped
    signal_tree(root, signal.SIGKILL)


def tree_memory_bytes(root):
    """Return the memory that only the descendants have."""
    pages = 0
    for pid in descendants(root):
        with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/%d/statm" % pid, "rb") as file:
            numbers = file.read().split()
            pages += int(numbers[1]) - int(numbers[2])
    return pages * os.sysconf("SC_PAGESIZE")


def memory_kills():
    """Return how often the kernel ended a process of this box for want of memory."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        with contextlib.suppress(OSError), open(path) as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0
