"""The model inside the package: whole, small, and served without a network."""

import json
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from envfarm.model.bundled_model import find_checkpoint
from envfarm.model.checkpoint_reader import load_model
from envfarm.model.inspection import inspect_checkpoint
from envfarm.model.tokenizer import load_tokenizer
from envfarm.training.held_out import document_bits

FOLDER = find_checkpoint("bundled")
MOST_BYTES = 40_000_000
ASKING = """
import json, socket, subprocess, sys, urllib.request
words = [sys.executable, "-c", "from envfarm.cli.main import main; main()", "model", "serve", "--listen", "127.0.0.1:0"]
server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
address = server.stdout.readline().split()[-1]
body = {"model": "bundled", "max_tokens": 12, "temperature": 0, "prompt": "def add(first, second):\\n    return"}
request = urllib.request.Request(
    f"{address}/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
)
interfaces = [name for _, name in socket.if_nameindex()]
print(json.dumps([json.load(urllib.request.urlopen(request)), interfaces]))
server.terminate()
sys.exit(server.wait())
"""


def test_a_name_or_a_path_finds_a_checkpoint(tmp_path: Path) -> None:
    assert Path(str(files("envfarm.model"))) / "bundled" == FOLDER
    assert find_checkpoint(str(tmp_path)) == tmp_path


def test_it_is_whole_small_and_stored_as_the_real_one_is() -> None:
    found = inspect_checkpoint(FOLDER)
    assert not found.misfits
    assert found.stored_bytes["F8_E4M3"] > found.stored_bytes["F32"]
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MOST_BYTES
    assert load_tokenizer(FOLDER).size <= found.config.vocab_size


def test_its_card_has_the_manifests_figures() -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    card = (FOLDER / "card.md").read_text(encoding="utf-8")
    for row in manifest["held_out_bits_per_byte"]:
        cells = [f"{row[name]:.2f}" for name in ("model", "gzip_each", "xz_each", "xz_together")]
        assert f"| {row['domain']} | {row['files']} | {' | '.join(cells)} |" in card
    tokens = f"{manifest['tokens_trained']:,}"
    assert tokens in card
    assert manifest["run"]["data_sha256"] in card
    assert re.search("cannot", card)


def test_it_knows_source_code_better_than_chance() -> None:
    model, vocabulary = load_model(FOLDER), load_tokenizer(FOLDER)
    text = Path(__file__).read_text(encoding="utf-8")
    tokens = vocabulary.encode(text)
    assert len(tokens) < len(text) / 2
    bits = document_bits(model, tokens, row_tokens=256) / len(text.encode())
    assert bits < 0.75 * len(tokens) * torch.tensor(float(model.config.vocab_size)).log2().item() / len(text.encode())


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is missing: apt-get install bubblewrap")
def test_it_is_served_where_there_is_no_network() -> None:
    box = ["bwrap", "--dev-bind", "/", "/", "--unshare-net", "--die-with-parent", "--"]
    done = subprocess.run([*box, sys.executable, "-c", ASKING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer, interfaces = json.loads(done.stdout)
    assert answer["usage"]["completion_tokens"] == 12
    assert answer["model"] == "bundled"
    assert interfaces == ["lo"]
