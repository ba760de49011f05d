"""Makes a task's image: of folders of this machine, or for a container engine, the same bit for bit each time."""

from envfarm.images.environment_store import EnvironmentStore
from envfarm.images.leased_image import find_image
from envfarm.images.prepare import compose_image, forget_workspace, prepare_image
from envfarm.images.unfinished import remove_unfinished, unfinished_folder

__all__ = [
    "EnvironmentStore",
    "compose_image",
    "find_image",
    "forget_workspace",
    "prepare_image",
    "remove_unfinished",
    "unfinished_folder",
]
