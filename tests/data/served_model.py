"""A small model with random weights, big enough to write its own vocabulary, and servers of it as processes."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import openai
import torch

from envfarm.model.checkpoint_writer import write_checkpoint
from envfarm.model.config import MiMoConfig
from envfarm.model.mimo import MiMo, initialise
from envfarm.model.parameter_table import Storage
from envfarm.model.tokenizer_training import train_tokenizer


def make_checkpoint(folder: Path) -> Path:
    """Write the model into a new folder; return it."""
    tokenizer = train_tokenizer([Path(__file__).read_text(encoding="utf-8")], 400)
    config = MiMoConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=16,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=12,
        v_head_dim=8,
        swa_num_attention_heads=4,
        swa_num_key_value_heads=2,
        swa_head_dim=12,
        swa_v_head_dim=8,
        hybrid_layer_pattern=(0, 1, 1),
        moe_layer_freq=(0, 1, 1),
        n_routed_experts=4,
        num_experts_per_tok=2,
        sliding_window=16,
        max_position_embeddings=4096,
        num_nextn_predict_layers=1,
        eos_token_id=393,
        pad_token_id=391,
    )
    model = MiMo(config)
    initialise(model, 0)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # far from uniform, as a trained model is
    write_checkpoint(model, folder, smallest=Storage.F32)
    tokenizer.save(folder)
    return folder


@dataclass
class Served:
    process: "subprocess.Popen[str]"
    address: str

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.address}/v1", api_key="none", max_retries=0, timeout=60)

    def read(self, path: str) -> str:
        with urllib.request.urlopen(self.address + path, timeout=20) as answer:  # noqa: S310 -- our own server
            text: str = answer.read().decode()
            return text

    def metric(self, name: str) -> float:
        found = re.search(rf"^envfarm_model_{name}(?:_total)? (\S+)$", self.read("/metrics"), re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    def wait_for(self, name: str, value: float) -> None:
        end = time.monotonic() + 120  # machines are shared
        while self.metric(name) != value:
            assert time.monotonic() < end, f"{name} is {self.metric(name)}, not {value}"
            time.sleep(0.02)


def start(folder: Path, *options: str) -> Served:
    command = [sys.executable, "-W", "error", "-c", "from envfarm.cli.main import main; main()", "model", "serve"]
    command += ["--model", str(folder), "--listen", "127.0.0.1:0", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder.parent
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"serving at (http://127\.0\.0\.1:\d+)/v1\n", line)
    if found is None:
        process.kill()
        message = f"{line!r} {process.communicate()}"
        raise AssertionError(message)
    return Served(process, found[1])


def end(served: Served) -> tuple[int, str]:
    served.process.send_signal(signal.SIGTERM)
    _, complaints = served.process.communicate(timeout=60)
    return served.process.returncode, complaints
