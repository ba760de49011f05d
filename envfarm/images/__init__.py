"""Makes a task's image ready on this machine: interpreter, locked environment, installed project, workspace."""

from envfarm.images.environment_store import EnvironmentStore
from envfarm.images.prepare import compose_image, forget_workspace, prepare_image
from envfarm.images.unfinished import remove_unfinished, unfinished_folder

__all__ = [
    "EnvironmentStore",
    "compose_image",
    "forget_workspace",
    "prepare_image",
    "remove_unfinished",
    "unfinished_folder",
]
