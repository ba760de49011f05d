"""What a run needs to go on exactly: weights, optimiser, step, and how long its journal was. Replaced by a rename."""

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from envfarm.errors import OutputFolderError
from envfarm.model.mimo import MiMo

STATE_FILE = "state.pt"


@dataclass(frozen=True)
class Progressed:
    """How far a run is.

    Attributes:
        step: Steps that are done.
        journal_bytes: How long the journal was then: later lines are of steps that are done again.
    """

    step: int
    journal_bytes: int


def save_state(folder: Path, model: MiMo, optimiser: torch.optim.Optimizer, progressed: Progressed) -> None:
    """Write the state to disk; an interruption, of the machine too, leaves the last one."""
    parts: dict[str, Any] = {
        "step": progressed.step,
        "journal_bytes": progressed.journal_bytes,
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    unfinished = folder / f"{STATE_FILE}.unfinished"
    with unfinished.open("wb") as stream:
        torch.save(parts, stream)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(folder / STATE_FILE)


def load_state(folder: Path, model: MiMo, optimiser: torch.optim.Optimizer) -> Progressed:
    """Put the last state into model and optimiser; a run that had saved none is at its beginning.

    Raises:
        OutputFolderError: It is damaged, or of another model.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return Progressed(0, 0)
    try:
        parts = torch.load(path, map_location=model.lm_head.weight.device, weights_only=True)
        model.load_state_dict(parts["model"])
        optimiser.load_state_dict(parts["optimiser"])
        return Progressed(int(parts["step"]), int(parts["journal_bytes"]))
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        message = f"{path}: it cannot be used ({type(error).__name__}): remove the folder, and begin again"
        raise OutputFolderError(message) from error
