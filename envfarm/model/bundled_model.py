"""The model inside the package: where its files lie, and its name wherever a checkpoint is asked for."""

from importlib.resources import files
from pathlib import Path

from envfarm.errors import CheckpointError

BUNDLED = "bundled"
"""Say `./bundled` for a folder of that name."""


def find_checkpoint(name: str) -> Path:
    """Return the folder that a user means: the package's own for `bundled`, else the path itself.

    Raises:
        CheckpointError: The package lies in an archive, where its weights cannot be read.
    """
    if name != BUNDLED:
        return Path(name)
    folder = files("envfarm.model") / BUNDLED
    if not isinstance(folder, Path):
        message = "the bundled model can be read from an unpacked installation only: pip install envfarm"
        raise CheckpointError(message)
    return folder
