"""Whose a box is: names of folders, control groups and containers tell their driver, so what a dead one left is found.

A name carries its driver's process id, and the machine and namespace in which that id means something; drivers of other
namespaces and, where machines share a place, of other machines, whose life cannot be known from here, keep what is
theirs.
"""

import os
import shutil
from pathlib import Path


def owner_mark() -> str:
    """Return this driver's mark, ``MACHINE.NAMESPACE-PROCESS-``."""
    return f"{_namespace()}-{os.getpid()}-"


def is_dead(mark: str) -> bool:
    """Return whether the driver of a mark (what follows it does not matter) is of this machine and has ended."""
    namespace, _, rest = mark.partition("-")
    process = rest.split("-")[0]
    if namespace != _namespace() or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def remove_folders(place: Path, prefix: str) -> None:
    """Remove folders that are ours and whose driver is dead: their names are `prefix`, a mark, and anything."""
    for folder in place.glob(f"{prefix}*"):
        if is_dead(folder.name.removeprefix(prefix)) and _is_ours(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    try:
        return folder.lstat().st_uid == os.geteuid()
    except FileNotFoundError:  # another driver was faster
        return False


def _namespace() -> str:
    """Return what tells this process namespace from others; the first one has the same number on every machine."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return f"{boot}.{Path('/proc/self/ns/pid').stat().st_ino:x}"
