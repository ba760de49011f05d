"""Removes what killed drivers left: a keeper and holders that were killed as well could not clean up.

See `owner_mark` for whose a folder or control group is.
"""

import tempfile
import time
from pathlib import Path

from envfarm.sandbox.local.cgroups import find_control_groups, remove_group
from envfarm.sandbox.owner_mark import is_dead, remove_folders

FOLDER_PREFIX = "envfarm-jail-"
GROUP_PREFIX = "envfarm-"
_TRIES, _PAUSE_SECONDS = 20, 0.005


def remove_leftovers() -> None:
    """Remove folders and groups of drivers that are dead; what cannot be removed stays for the next time."""
    for group in find_control_groups(GROUP_PREFIX):
        if is_dead(group.name.removeprefix(GROUP_PREFIX)):
            for _ in range(_TRIES):
                if remove_group(group):
                    break
                time.sleep(_PAUSE_SECONDS)
    remove_folders(Path(tempfile.gettempdir()), FOLDER_PREFIX)
