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
_CONTROLLERS = ("memory", "pids", "cpu")
_PERIOD_US, _LEAST_QUOTA_US = 100_000, 1000
"""As the kernel has them."""


@dataclass(frozen=True)
class ControlGroups:
    """The groups of one lease.

    Attributes:
        folders: All of them; removed by the holder.
        memory: The one that bounds memory, or None.
        pids: The one that bounds processes, or None.
        cpu: The one that can bound processors, or None.
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

    def bound(self, *, memory_bytes: int, process_count: int, cpu_cores: float | None = None) -> None:
        """Bound what all processes of the groups use together; processors only where that is asked for.

        Raises:
            OSError: The kernel refuses a bound, such as one below what is used already.
        """
        quota = None if cpu_cores is None else max(math.ceil(cpu_cores * _PERIOD_US), _LEAST_QUOTA_US)
        if _is_unified():
            _write(self.memory, {"memory.max": memory_bytes})
            _try_to_write(self.memory, {"memory.swap.max": 0})
            _write(self.cpu, {} if quota is None else {"cpu.max": f"{quota} {_PERIOD_US}"})
        else:
            _write(self.memory, {"memory.limit_in_bytes": memory_bytes})
            _try_to_write(self.memory, {"memory.memsw.limit_in_bytes": memory_bytes})
            _write(self.cpu, {} if quota is None else {"cpu.cfs_period_us": _PERIOD_US, "cpu.cfs_quota_us": quota})
        _write(self.pids, {"pids.max": process_count})

    def remove(self) -> bool:
        """Remove what is left of the groups, mostly nothing since their holder has done it; see `remove_group`."""
        gone = [remove_group(folder) for folder in self.folders]
        return all(gone)


def make_control_groups(name: str) -> ControlGroups:
    """Return new groups, still without bounds; empty ones where this user may not make any."""
    if _is_unified():
        return _make_unified(name)
    made = [_make(_ROOT / controller / name) for controller in _CONTROLLERS]
    return ControlGroups(tuple(folder for folder in made if folder is not None), *made)


def _make_unified(name: str) -> ControlGroups:
    parent = _own_unified_group()
    for words in ("+memory +pids", "+cpu"):
        with contextlib.suppress(OSError):
            (parent / "cgroup.subtree_control").write_text(words)
    folder = _make(parent / name)
    if folder is None:
        return ControlGroups()
    enabled = set((folder / "cgroup.controllers").read_text().split())
    if enabled.isdisjoint(_CONTROLLERS):
        folder.rmdir()
        return ControlGroups()
    return ControlGroups((folder,), *(folder if controller in enabled else None for controller in _CONTROLLERS))


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


def _is_unified() -> bool:
    return (_ROOT / "cgroup.controllers").is_file()


def _own_unified_group() -> Path:
    """Return where we may make groups: the root's for root, else the parent of our own (it may hold no process)."""
    if os.geteuid() == 0:
        return _ROOT
    with contextlib.suppress(OSError, IndexError):
        own = Path("/proc/self/cgroup").read_text().strip().rsplit("::", 1)[1].lstrip("/")
        return (_ROOT / own).parent
    return _ROOT


def _make(folder: Path) -> Path | None:
    try:
        folder.mkdir()
    except OSError:
        return None
    return folder


def _write(folder: Path | None, bounds: Mapping[str, int | str]) -> None:
    if folder is not None:
        for file, value in bounds.items():
            (folder / file).write_text(str(value))


def _try_to_write(folder: Path | None, bounds: Mapping[str, int | str]) -> None:
    with contextlib.suppress(OSError):  # the file is missing where the kernel counts no swap
        _write(folder, bounds)
