"""Control groups for one lease, where this user may make them: version 1 and 2.

Where they may not be made (an ordinary user without delegation, a container without a writable hierarchy), limits come
from rlimits alone, and `envfarm doctor` says so.
"""

import contextlib
import math
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US, _LEAST_QUOTA_US = 100_000, 1000
"""As the kernel has them."""


@dataclass(frozen=True)
class ControlGroups:
    """The groups of one lease.

    Attributes:
        folders: All of them; removed by the holder.
        memory: The one that bounds memory, or None.
        pids: The one that bounds processes, or None.
        cpu: The one that bounds processors, or None; also where none were asked for.
    """

    folders: tuple[Path, ...] = ()
    memory: Path | None = None
    pids: Path | None = None
    cpu: Path | None = None

    def join_files(self) -> list[str]:
        """Return the files by which a command joins.

        In version 1 that is ``tasks``, to which a process writes 0 for itself: whatever else is written, or by whom,
        waits some milliseconds for all processors. Version 2 has no such file.
        """
        single = all((folder / "tasks").is_file() for folder in self.folders)
        return [str(folder / ("tasks" if single else "cgroup.procs")) for folder in self.folders]

    def remove(self) -> bool:
        """Remove what is left of the groups, mostly nothing since their holder has done it; see `remove_group`."""
        gone = [remove_group(folder) for folder in self.folders]
        return all(gone)

    def out_of_memory_kills(self) -> int:
        """Return how many processes of the groups the kernel ended for want of memory."""
        if self.memory is None:
            return 0
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                for line in (self.memory / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0


def make_control_groups(
    name: str, *, memory_bytes: int, process_count: int, cpu_cores: float | None = None
) -> ControlGroups:
    """Return new groups with these bounds; empty ones where this user may not make any."""
    if (_ROOT / "cgroup.controllers").is_file():
        return _make_unified(name, memory_bytes, process_count, cpu_cores)
    memory = _make(
        _ROOT / "memory" / name, {"memory.limit_in_bytes": memory_bytes, "memory.memsw.limit_in_bytes": memory_bytes}
    )
    pids = _make(_ROOT / "pids" / name, {"pids.max": process_count + 1})  # bubblewrap itself joins as well
    cpu = None
    if cpu_cores is not None:
        cpu = _make(_ROOT / "cpu" / name, {"cpu.cfs_period_us": _PERIOD_US, "cpu.cfs_quota_us": _quota_us(cpu_cores)})
    return ControlGroups(tuple(folder for folder in (memory, pids, cpu) if folder is not None), memory, pids, cpu)


def _make_unified(name: str, memory_bytes: int, process_count: int, cpu_cores: float | None) -> ControlGroups:
    parent = _own_unified_group()
    for words in ("+memory +pids", *(["+cpu"] if cpu_cores is not None else [])):
        with contextlib.suppress(OSError):
            (parent / "cgroup.subtree_control").write_text(words)
    bounds: dict[str, int | str] = {"memory.max": memory_bytes, "memory.swap.max": 0, "pids.max": process_count}
    if cpu_cores is not None:
        bounds["cpu.max"] = f"{_quota_us(cpu_cores)} {_PERIOD_US}"
    folder = _make(parent / name, bounds)
    if folder is None:
        return ControlGroups()
    enabled = {"memory", "pids", "cpu"} & set((folder / "cgroup.controllers").read_text().split())
    if not enabled:
        folder.rmdir()
        return ControlGroups()
    memory, pids, cpu = (folder if controller in enabled else None for controller in ("memory", "pids", "cpu"))
    return ControlGroups((folder,), memory, pids, cpu if cpu_cores is not None else None)


def _quota_us(cpu_cores: float) -> int:
    """Return how long processes may run in each period, all together."""
    return max(math.ceil(cpu_cores * _PERIOD_US), _LEAST_QUOTA_US)


def find_control_groups(prefix: str) -> list[Path]:
    """Return the groups whose name begins with `prefix`, wherever this user could have made them."""
    if (_ROOT / "cgroup.controllers").is_file():
        parents = [_own_unified_group()]
    else:
        parents = [_ROOT / controller for controller in ("memory", "pids", "cpu")]
    return [group for parent in parents for group in parent.glob(f"{prefix}*") if group.is_dir()]


def remove_group(folder: Path) -> bool:
    """Remove a group, and return whether it is gone; processes in it are killed, which takes them a moment."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        _kill_all_in(folder)
        return False
    return True


def _kill_all_in(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for word in (folder / "cgroup.procs").read_text().split():
            if word != "0":  # a process that is not in our namespace; to kill it would mean our own process group
                with contextlib.suppress(OSError):
                    os.kill(int(word), signal.SIGKILL)


def _own_unified_group() -> Path:
    """Return where we may make groups: the root's for root, else the parent of our own (it may hold no process)."""
    if os.geteuid() == 0:
        return _ROOT
    with contextlib.suppress(OSError, IndexError):
        own = Path("/proc/self/cgroup").read_text().strip().rsplit("::", 1)[1].lstrip("/")
        return (_ROOT / own).parent
    return _ROOT


def _make(folder: Path, bounds: Mapping[str, int | str]) -> Path | None:
    try:
        folder.mkdir()
    except OSError:
        return None
    for file, value in bounds.items():
        with contextlib.suppress(OSError):  # memsw and swap are missing where the kernel counts no swap
            (folder / file).write_text(str(value))
    return folder
