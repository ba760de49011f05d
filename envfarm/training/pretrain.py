"""Pretrains a model: a run that can be killed at any moment and goes on as if nothing had happened.

The run's folder is the checkpoint in the end. Until then, `training/` in it holds settings, vocabulary, tokens, the
last state and the journal; it goes when the checkpoint is there. What a step does follows from the settings and
its number alone, so that a resumed run has the same losses to the last bit.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from envfarm.errors import OutputFolderError
from envfarm.model.mimo import MiMo, initialise
from envfarm.training.by_kernels.calls import Calls, choose_calls
from envfarm.training.corpus import digest_of
from envfarm.training.finish import finish_run, is_finished
from envfarm.training.loss_journal import LossJournal
from envfarm.training.optimiser import make_optimiser
from envfarm.training.packing import Batch, PackedRows
from envfarm.training.presets import Preset
from envfarm.training.run_settings import (
    RunSettings,
    find_preset,
    read_settings,
    refuse_differences,
    refuse_late_end,
    sizes_of,
    write_settings,
)
from envfarm.training.run_state import Progressed, load_state, save_state
from envfarm.training.token_store import open_token_store, open_vocabulary
from envfarm.training.train_step import StepReport, train_step

WORK = "training"
"""The folder of a run in progress, inside the checkpoint's."""


class Observer(Protocol):
    """Who is told of progress."""

    def tell(self, phase: str) -> None:
        """Take note of what is being done."""

    def stepped(self, report: StepReport, steps: int) -> None:
        """Take note of a step out of so many."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked for.

    Attributes:
        preset: A preset's name.
        data: A corpus.
        out: The run's folder.
        steps: Steps of the whole run; None for the preset's.
        state_every: Steps between two states on disk.
        device: `auto`, `cpu` or `cuda`.
        threads: Of the CPU; None for torch's own choice.
        kernels: Whether kernels of our own may compute, where they can.
        resumes: Whether to go on with the run that lies in `out`.
    """

    preset: str
    data: Path
    out: Path
    steps: int | None = None
    state_every: int = 100
    device: str = "auto"
    threads: int | None = None
    kernels: bool = True
    resumes: bool = False


def pretrain(wish: Wish, observer: Observer, stop_asked: Callable[[], bool] = lambda: False) -> bool:
    """Train until the end and make a checkpoint of the folder, or until asked to stop.

    Returns:
        Whether the checkpoint is there. If not, the state of the last step is on disk, to be resumed.

    Raises:
        SettingsError: Preset, data or device are wrong, or differ from those of the run that is resumed.
        OutputFolderError: Something lies in `out`, no run lies there to be resumed, or its files are damaged.
    """
    preset, work = find_preset(wish.preset), wish.out / WORK
    settings, calls = _settings(wish, preset)
    if wish.resumes and is_finished(wish.out):
        return True
    with _exact(settings.threads):
        device = torch.device(settings.device)
        model = MiMo(preset.config, device=device)
        initialise(model, preset.recipe.seed)
        model.train()
        optimiser = make_optimiser(model, preset.recipe)
        progressed = _begin(wish, settings, model, optimiser)
        recipe = settings.preset_of_run().recipe
        observer.tell("vocabulary")
        vocabulary = open_vocabulary(work, wish.data, preset.config.vocab_size, recipe.vocabulary_bytes)
        observer.tell("tokens")
        store = open_token_store(wish.data, vocabulary, work / "tokens")
        rows = PackedRows(store, rows=recipe.rows, row_tokens=recipe.row_tokens, seed=recipe.seed)
        observer.tell("training")
        with LossJournal(work, progressed.journal_bytes) as journal:
            for step in range(progressed.step, settings.steps):
                started = time.perf_counter()
                batch = _moved(rows.batch(step), device)
                report = train_step(model, optimiser, batch, recipe, step, getattr(torch, settings.dtype), calls)
                journal.add(report, time.perf_counter() - started)
                observer.stepped(report, settings.steps)
                stops = stop_asked()
                if stops or (step + 1) % wish.state_every == 0 or step + 1 == settings.steps:
                    save_state(work, model, optimiser, Progressed(step + 1, journal.sync()))
                if stops and step + 1 < settings.steps:
                    return False
        observer.tell("held-out text")
        finish_run(wish.out, work, model, vocabulary, wish.data, settings, store)
    return True


def _settings(wish: Wish, preset: Preset) -> tuple[RunSettings, Calls | None]:
    """Return what numbers will depend on, and the kernels if they compute."""
    from envfarm.training.devices import choose_device, choose_dtype

    device, threads = choose_device(wish.device), wish.threads or torch.get_num_threads()
    calls = choose_calls(device, threads) if wish.kernels else None
    settings = RunSettings(
        preset=wish.preset,
        sizes=sizes_of(preset),
        steps=preset.recipe.schedule.steps if wish.steps is None else wish.steps,
        data_sha256=digest_of(wish.data, "train"),
        device=device,
        dtype=choose_dtype(device),
        threads=threads,
        torch=str(torch.__version__),
        computed_by="torch" if calls is None else "kernels",
    )
    return settings, calls


def _begin(wish: Wish, settings: RunSettings, model: MiMo, optimiser: torch.optim.Optimizer) -> Progressed:
    """Make the run's folder, or take up the run that lies there."""
    work = wish.out / WORK
    if wish.resumes:
        before = read_settings(work)
        refuse_differences(before, settings)
        progressed = load_state(work, model, optimiser)
        refuse_late_end(before, settings, progressed.step)
        if before != settings:
            write_settings(work, settings)
        return progressed
    try:
        if wish.out.exists() and (not wish.out.is_dir() or any(wish.out.iterdir())):
            message = f"{wish.out}: something lies there already: name a new folder, or go on with --resume"
            raise OutputFolderError(message)
        work.mkdir(parents=True)
        write_settings(work, settings)
    except OSError as error:
        message = f"{wish.out}: cannot be written: {error.strerror}"
        raise OutputFolderError(message) from error
    return Progressed(0, 0)


@contextmanager
def _exact(threads: int) -> Iterator[None]:
    """Let torch compute the same numbers each time, and put its settings back afterwards."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filling: Any = torch.utils.deterministic
    fills = filling.fill_uninitialized_memory
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)
    filling.fill_uninitialized_memory = False  # nothing here reads what it has not written
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        filling.fill_uninitialized_memory = fills


def _moved(batch: Batch, device: torch.device) -> Batch:
    return Batch(batch.tokens_B_T.to(device), batch.documents_B_T.to(device))
