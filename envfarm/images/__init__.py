"""Makes a task's image ready on this machine: locked environment, installed project, workspace."""
