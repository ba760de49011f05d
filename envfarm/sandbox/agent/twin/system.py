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


class MemoryKills:
    """Which processes of this box the kernel ended for want of memory, where the box's control group can be seen.

    Version 2 counts how often the bound was reached, version 1 tells the peak, once for memory and once with swap.
    """

    UNIFIED = "/sys/fs/cgroup/memory.events"
    KILLS = "/sys/fs/cgroup/memory/memory.oom_control"
    KINDS = ("/sys/fs/cgroup/memory/memory", "/sys/fs/cgroup/memory/memory.memsw")
    HUGE_PAGE_BYTES = 2 << 20  # a charge of one fails so far below the bound

    def __init__(self):
        """Take the counts at the start."""
        self.is_unified = os.path.exists(self.UNIFIED)
        self.own = 0  # kills that the box's own bound asked for, so far
        self.machine = False  # whether there was one that it did not ask for
        self.kills, self.hits = self.read_kills(), read_count(self.UNIFIED, "oom")

    def read_kills(self):
        """Return how often the kernel ended a process."""
        return read_count(self.UNIFIED if self.is_unified else self.KILLS, "oom_kill")

    def has_reached_bound(self):
        """Return whether the box's own bound was reached; in version 2, since the last call."""
        if self.is_unified:
            before, self.hits = self.hits, read_count(self.UNIFIED, "oom")
            return self.hits > before
        ends = (".max_usage_in_bytes", ".limit_in_bytes")
        peaks = [[read_count(kind + end, "") for end in ends] for kind in self.KINDS]
        return any(0 < bound <= peak + self.HUGE_PAGE_BYTES for peak, bound in peaks)

    def look(self):
        """Take the counts of now."""
        kills = self.read_kills()
        if kills > self.kills:
            if self.has_reached_bound():
                self.own += kills - self.kills
            else:
                self.machine = True
            self.kills = kills


def read_count(path, word):
    """Return the number behind a word at the beginning of a line; without a word, that which the file holds."""
    with contextlib.suppress(OSError, ValueError), open(path) as file:
        for line in file:
            name, _, number = line.rpartition(" ")
            if name == word:
                return int(number)
    return 0
