"""A pretraining on the miniature corpus: loss falls, a kill leaves no trace, and its folder is a checkpoint."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envfarm.errors import OutputFolderError, SettingsError
from envfarm.model.checkpoint_reader import load_model
from envfarm.model.inspection import inspect_checkpoint
from envfarm.model.tokenizer import load_tokenizer
from envfarm.training.loss_journal import read_journal
from envfarm.training.pretrain import WORK, Wish, pretrain
from envfarm.training.train_step import StepReport

DATA = Path(__file__).parents[1] / "data" / "miniature_corpus"
STEPS = 40


class Quiet:
    def tell(self, phase: str) -> None:
        pass

    def stepped(self, report: StepReport, steps: int) -> None:
        pass


class Stopping:
    """Asks to stop after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


def wish(out: Path, **changes: Any) -> Wish:
    return replace(
        Wish(preset="tiny", data=DATA, out=out, steps=STEPS, threads=1, state_every=10, device="cpu"), **changes
    )


def numbers(folder: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in read_journal(folder)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "base"
    assert pretrain(wish(folder), Quiet())
    return folder


def test_loss_falls(whole: Path) -> None:
    journal = read_journal(whole)
    assert [line["step"] for line in journal] == list(range(STEPS))
    early, late = (sum(line["loss"] for line in part) / 5 for part in (journal[:5], journal[-5:]))
    assert early > 5.5
    assert late < early - 0.8
    early, late = (sum(line["mtp_losses"][0] for line in part) / 5 for part in (journal[:5], journal[-5:]))
    assert late < early - 0.4
    assert all(line["zero_gradients"] >= 0 and len(line["loads"]) == 2 for line in journal)


def test_the_folder_is_a_checkpoint_with_vocabulary_manifest_and_plots(whole: Path) -> None:
    assert not inspect_checkpoint(whole).misfits
    assert load_tokenizer(whole).size <= load_model(whole).config.vocab_size
    manifest = json.loads((whole / "manifest.json").read_text())
    assert (manifest["run"]["steps"], manifest["tokens_trained"]) == (STEPS, STEPS * 4 * 128)
    bits = manifest["held_out_bits_per_byte"]
    assert [row["domain"] for row in bits] == ["all", "prose", "python"]
    assert 1 < bits[0]["gzip_each"] < 6
    assert 1 < bits[0]["model"] < 8
    assert {path.name for path in whole.glob("*.svg")} == {"loss.svg", "expert_load.svg"}
    assert not (whole / WORK).exists()


def test_a_killed_run_goes_on_with_the_same_numbers_to_the_last_bit(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "base"
    words = ["--preset", "tiny", "--data", str(DATA), "--out", str(out), "--steps", str(STEPS), "--device", "cpu"]
    words = ["train", "pretrain", *words, "--threads", "1", "--state-every", "10"]
    program = "from envfarm.cli.main import main; main()"
    with subprocess.Popen([sys.executable, "-c", program, *words], stderr=subprocess.DEVNULL) as running:
        journal = out / WORK / "journal.jsonl"
        deadline = time.monotonic() + 120
        while not (journal.is_file() and journal.read_bytes().count(b"\n") > 13):
            assert running.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL
    assert 13 < len(read_journal(out / WORK)) < STEPS
    assert pretrain(wish(out, resumes=True), Quiet())
    assert numbers(out) == numbers(whole)
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_run_may_be_stopped_and_given_another_end_before_its_decay(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "base"
    assert not pretrain(wish(out, steps=400), Quiet(), Stopping(7))
    assert len(read_journal(out / WORK)) == 7
    assert pretrain(wish(out, resumes=True), Quiet())
    assert numbers(out) == numbers(whole)
    assert pretrain(wish(out, resumes=True), Quiet()), "what is done is done"


def test_a_run_is_not_resumed_as_another_one(tmp_path: Path) -> None:
    out, other = tmp_path / "base", tmp_path / "data"
    assert not pretrain(wish(out), Quiet(), Stopping(30))
    other.mkdir()
    (other / "train.jsonl").write_bytes(
        (DATA / "train.jsonl").read_bytes() + b'{"project":"p","path":"a.py","domain":"python","text":"x"}\n'
    )
    for changes, complaint in (
        ({"data": other}, "data_sha256 was"),
        ({"threads": 2}, "threads was 1 and is 2"),
        ({"kernels": False}, "computed_by was kernels and is torch now"),
        ({"preset": "bundled"}, "preset was tiny and is bundled"),
        ({"steps": 50}, "30 steps are done, and with 40 or 50 steps the decay began earlier"),
    ):
        with pytest.raises(SettingsError, match=complaint):
            pretrain(wish(out, resumes=True, **changes), Quiet())
    (out / WORK / "state.pt").write_bytes(b"damaged")
    with pytest.raises(OutputFolderError, match=r"state.pt: it cannot be used"):
        pretrain(wish(out, resumes=True), Quiet())


def test_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    empty = tmp_path / "empty"
    empty.mkdir()
    for changes, complaint in (
        ({"preset": "huge"}, "preset: 'huge' is none of bundled, tiny"),
        ({"device": "tpu"}, "device: 'tpu' is none of auto, cpu, cuda"),
        ({"data": empty}, r"train.jsonl: cannot be read .*fetch-corpus"),
        ({"out": taken}, "something lies there already"),
        ({"out": taken, "resumes": True}, "no run was started there: leave out --resume"),
    ):
        with pytest.raises((SettingsError, OutputFolderError), match=complaint):
            pretrain(wish(**{"out": tmp_path / "new", **changes}), Quiet())  # type: ignore[arg-type]
    assert [path.name for path in taken.iterdir()] == ["mine.txt"]
    words = ["train", "pretrain", "--preset", "huge", "--data", str(DATA), "--out", str(tmp_path / "new")]
    program = "from envfarm.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "envfarm: preset: 'huge' is none of bundled, tiny\n")
