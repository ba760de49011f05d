"""Removes what killed drivers left: a keeper and holders that were killed as well could not clean up.

A folder or control group carries its driver's process id, and the namespace in which that id means something; drivers
of other namespaces, whose life cannot be known from here, keep what is theirs.
"""

import contextlib
import os
import re
import shutil
import signal
import tempfile
from pathlib import Path

from envfarm.sandbox.local.cgroups import find_control_groups

FOLDER_PREFIX = "envfarm-jail-"
GROUP_PREFIX = "envfarm-"
_NAME = re.compile(r"envfarm-(?:jail-)?(\d+)-(\d+)-")


def owner_mark() -> str:
    """Return what names of this driver's folders and groups hold after their prefix."""
    return f"{_namespace()}-{os.getpid()}-"


def remove_leftovers() -> None:
    """Remove folders and groups of drivers that are dead; what cannot be removed stays for the next time."""
    for group in find_control_groups(GROUP_PREFIX):
        if _is_dead(group.name):
            with contextlib.suppress(OSError, ValueError):
                for pid in (group / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
            with contextlib.suppress(OSError):
                group.rmdir()
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        if _is_dead(folder.name) and _is_ours(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_dead(name: str) -> bool:
    match = _NAME.match(name)
    if match is None or int(match[1]) != _namespace():
        return False
    try:
        os.kill(int(match[2]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _is_ours(folder: Path) -> bool:
    try:
        return folder.lstat().st_uid == os.geteuid()
    except FileNotFoundError:  # another driver was faster
        return False


def _namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino
