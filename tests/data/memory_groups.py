"""Control groups of the tests' own, for the kernel's ends for want of memory."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MEBIBYTE = 1 << 20
HUNGRY = "x = b'x' * 200_000_000"
"""A program that wants about 200 MB."""
IS_UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").is_file()


def bound_memory(group: Path, memory_bytes: int) -> None:
    """Memory and swap together; in version 1 that on both may never be below that on memory."""
    if IS_UNIFIED:
        bounds = {"memory.max": memory_bytes, "memory.swap.max": 0}
    else:
        bounds = {"memory.memsw.limit_in_bytes": memory_bytes, "memory.limit_in_bytes": memory_bytes}
    for _ in range(2):
        for name, number in bounds.items():
            with suppress(OSError):
                (group / name).write_text(str(number))
    name = "memory.max" if IS_UNIFIED else "memory.limit_in_bytes"
    assert int((group / name).read_text()) // 4096 == memory_bytes // 4096


@contextmanager
def memory_group(name: str) -> Iterator[Path]:
    """A group that bounds nothing yet and whose own groups may bound memory."""
    group = (Path("/sys/fs/cgroup") if IS_UNIFIED else Path("/sys/fs/cgroup/memory")) / name
    group.mkdir()
    try:
        if IS_UNIFIED:
            (group / "cgroup.subtree_control").write_text("+memory")
        yield group
    finally:
        remove(group)


def remove(group: Path) -> None:
    """A group whose processes have just ended is busy for a moment."""
    for _ in range(200):
        if not group.is_dir():
            return
        with suppress(OSError):
            group.rmdir()
        time.sleep(0.02)
    assert not group.is_dir(), group


def hunger_in(group: Path) -> int:
    """The status of a program of the group that wants about 200 MB."""
    program = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0'); {HUNGRY}"
    return subprocess.run([sys.executable, "-c", program], check=False).returncode


def may_bound_memory() -> bool:
    try:
        with memory_group(f"envfarm-tried-memory-{os.getpid()}"):
            return True
    except OSError:
        return False
