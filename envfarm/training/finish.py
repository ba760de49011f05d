"""Makes a checkpoint of a run that is done: FP8 weights, vocabulary, journal, plots, and a manifest that says it all.

What is measured is what was stored: the weights are read back first. config.json comes last, so that a folder that has
it is whole.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from envfarm.model.checkpoint_files import CONFIG_FILE
from envfarm.model.checkpoint_reader import load_model
from envfarm.model.checkpoint_writer import write_checkpoint
from envfarm.model.mimo import MiMo
from envfarm.model.tokenizer import Tokenizer
from envfarm.training.corpus import MANIFEST, digest_of, read_documents
from envfarm.training.curve_plot import Curve, draw_curves
from envfarm.training.held_out import measure_held_out, thin_out
from envfarm.training.loss_journal import JOURNAL_FILE, read_journal
from envfarm.training.run_settings import RunSettings
from envfarm.training.token_store import TokenStore

HELD_OUT_BYTES = 600_000
"""About so much held-out text is measured."""


def is_finished(folder: Path) -> bool:
    """Return whether a run's folder is a whole checkpoint."""
    return (folder / CONFIG_FILE).is_file() and (folder / MANIFEST).is_file()


def finish_run(
    folder: Path, work: Path, model: MiMo, vocabulary: Tokenizer, data: Path, settings: RunSettings, store: TokenStore
) -> None:
    """Make the checkpoint in `folder`, and remove `work`, which a run in progress needs."""
    made = work / "checkpoint"
    shutil.rmtree(made, ignore_errors=True)
    write_checkpoint(model, made)
    vocabulary.save(made)
    journal = read_journal(work)
    recipe = settings.preset_of_run().recipe
    documents = thin_out(read_documents(data, "held_out"), HELD_OUT_BYTES)
    bits = measure_held_out(load_model(made), vocabulary, documents, recipe.row_tokens)
    manifest: dict[str, Any] = {
        "run": msgspec.to_builtins(settings),
        "held_out_sha256": digest_of(data, "held_out"),
        "tokens_of_data": int(store.starts[-1]),
        "tokens_trained": settings.steps * recipe.rows * recipe.row_tokens,
        "seconds": round(sum(float(line["seconds"]) for line in journal)),
        "last_losses": journal[-1]["loss"] if journal else None,
        "last_mtp_losses": journal[-1]["mtp_losses"] if journal else None,
        "held_out_bits_per_byte": [asdict(row) for row in bits],
    }
    (made / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    for name, drawing in draw_journal(journal).items():
        (made / name).write_text(drawing, encoding="utf-8")
    shutil.copyfile(work / JOURNAL_FILE, made / JOURNAL_FILE)
    for path in sorted(made.iterdir(), key=lambda path: path.name == CONFIG_FILE):
        path.replace(folder / path.name)
    shutil.rmtree(work)


def draw_journal(journal: list[dict[str, Any]]) -> dict[str, str]:
    """Return the plots of a run as SVG by file name: losses, and the load of experts."""
    losses = [Curve("next token", [(line["step"], line["loss"]) for line in journal])]
    blocks = len(journal[0]["mtp_losses"]) if journal else 0
    losses += [
        Curve(f"MTP block {block}", [(line["step"], line["mtp_losses"][block]) for line in journal])
        for block in range(blocks)
    ]
    layers = len(journal[0]["loads"]) if journal else 0
    loads = [
        Curve(f"expert layer {layer}", [(line["step"], max(line["loads"][layer])) for line in journal])
        for layer in range(layers)
    ]
    return {
        "loss.svg": draw_curves("Loss, nats of each token", "step", losses),
        "expert_load.svg": draw_curves("Load of the busiest expert; 1 is equal work", "step", loads),
    }
