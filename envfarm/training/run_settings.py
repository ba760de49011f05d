"""What a run was started with, on disk beside it: a resumed run has to be the same run."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec

from envfarm.errors import OutputFolderError, SettingsError
from envfarm.training.presets import PRESETS, Preset

RUN_FILE = "run.json"
_MAY_DIFFER = frozenset({"steps"})


class RunSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that the numbers of a run depend on.

    Attributes:
        preset: Its name.
        sizes: The preset's configuration and recipe as they were, but for the steps.
        steps: Steps of the whole run. May change when it is resumed, as long as no step of a decay was done.
        data_sha256: Digest of the training split.
        device: `cpu` or `cuda`.
        dtype: What products are computed in, `bfloat16` or `float32`.
        threads: Of the CPU.
        torch: Its version.
        computed_by: `kernels` or `torch`; a run of a version that had torch only does not say it.
    """

    preset: str
    sizes: dict[str, Any]
    steps: int
    data_sha256: str
    device: str
    dtype: str
    threads: int
    torch: str
    computed_by: str = "torch"

    def preset_of_run(self) -> Preset:
        """Return the preset with this run's steps."""
        preset = PRESETS[self.preset]
        schedule = replace(preset.recipe.schedule, steps=self.steps)
        return replace(preset, recipe=replace(preset.recipe, schedule=schedule))


def find_preset(name: str) -> Preset:
    """Return a preset by its name.

    Raises:
        SettingsError: There is none.
    """
    if name not in PRESETS:
        message = f"preset: {name!r} is none of {', '.join(sorted(PRESETS))}"
        raise SettingsError(message)
    return PRESETS[name]


def sizes_of(preset: Preset) -> dict[str, Any]:
    """Return what a preset holds as plain values, but for the steps."""
    recipe = replace(preset.recipe, schedule=replace(preset.recipe.schedule, steps=0))
    sizes: dict[str, Any] = msgspec.to_builtins({"config": asdict(preset.config), "recipe": asdict(recipe)})
    return msgspec.json.decode(msgspec.json.encode(sizes), type=dict[str, Any])


def write_settings(folder: Path, settings: RunSettings) -> None:
    """Write them; an interruption leaves the old ones or the new ones."""
    unfinished = folder / f"{RUN_FILE}.unfinished"
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(settings), indent=1) + b"\n")
    unfinished.replace(folder / RUN_FILE)


def read_settings(folder: Path) -> RunSettings:
    """Return what a run was started with.

    Raises:
        OutputFolderError: No run was started there, or its settings are damaged.
    """
    try:
        return msgspec.json.decode((folder / RUN_FILE).read_bytes(), type=RunSettings)
    except OSError as error:
        message = f"{folder}: no run was started there: leave out --resume"
        raise OutputFolderError(message) from error
    except msgspec.DecodeError as error:
        message = f"{folder / RUN_FILE}: {error}"
        raise OutputFolderError(message) from error


def refuse_differences(before: RunSettings, now: RunSettings) -> None:
    """Refuse to go on with a run as another one; its end is another question.

    Raises:
        SettingsError: What it was started with and what is asked for differ; the message names the first field.
    """
    for name in RunSettings.__struct_fields__:
        if name not in _MAY_DIFFER and getattr(before, name) != getattr(now, name):
            was, is_ = (str(getattr(settings, name))[:60] for settings in (before, now))
            message = f"--resume: {name} was {was} and is {is_} now: the run would not be the same"
            raise SettingsError(message)


def refuse_late_end(before: RunSettings, now: RunSettings, step: int) -> None:
    """Refuse another end where the learning rate of a step that is done would have been another one.

    Raises:
        SettingsError: A decay has begun.
    """
    starts = [settings.preset_of_run().recipe.schedule.decay_start for settings in (before, now)]
    if before.steps != now.steps and step > min(starts):
        message = (
            f"--resume: {step} steps are done, and with {before.steps} or {now.steps} steps the decay began earlier"
        )
        raise SettingsError(message)
