"""Removes what killed drivers left: a keeper and holders that were killed as well could not clean up.

A folder or control group carries its driver's process id, and the machine and namespace in which that id means
something; drivers of other namespaces and, in a temporary folder that machines share, of other machines, whose life
cannot be known from here, keep what is theirs.
"""

import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from envfarm.sandbox.local.cgroups import find_control_groups, remove_group

FOLDER_PREFIX = "envfarm-jail-"
GROUP_PREFIX = "envfarm-"
_TRIES, _PAUSE_SECONDS = 20, 0.005
_NAME = re.compile(r"envfarm-(?:jail-)?([0-9a-f.]+)-(\d+)-")


def owner_mark() -> str:
    """Return what names of this driver's folders and groups hold after their prefix."""
    return f"{_namespace()}-{os.getpid()}-"


def remove_leftovers() -> None:
    """Remove folders and groups of drivers that are dead; what cannot be removed stays for the next time."""
    for group in find_control_groups(GROUP_PREFIX):
        if _is_dead(group.name):
            for _ in range(_TRIES):
                if remove_group(group):
                    break
                time.sleep(_PAUSE_SECONDS)
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        if _is_dead(folder.name) and _is_ours(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_dead(name: str) -> bool:
    match = _NAME.match(name)
    if match is None or match[1] != _namespace():
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


def _namespace() -> str:
    """Return what tells this process namespace from others; the first one has the same number on every machine."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return f"{boot}.{Path('/proc/self/ns/pid').stat().st_ino:x}"
