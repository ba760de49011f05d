"""Makes a task's image ready on this machine: interpreter, locked environment, installed project, workspace."""

from envfarm.images.environment_store import EnvironmentStore
from envfarm.images.prepare import compose_image, forget_workspace, prepare_image

__all__ = ["EnvironmentStore", "compose_image", "forget_workspace", "prepare_image"]
