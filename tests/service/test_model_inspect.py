"""`envfarm model inspect` on real files, in a process that cannot import torch."""

import json
import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Any

import pytest

from envfarm.model.config import MiMoConfig
from envfarm.model.config_json import parse_config, render_config
from envfarm.model.parameter_table import SCALE_SUFFIX, Storage, parameters
from envfarm.model.scale_tiles import scale_shape
from envfarm.model.tensor_header import ITEM_BYTES, render_header

REAL = Path(__file__).parents[1] / "data/model/config.json"
DTYPES = {Storage.FP8: "F8_E4M3", Storage.BF16: "BF16", Storage.F32: "F32"}


def inspect(*words: str | Path) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['numpy'] = None\n"
        "from envfarm.cli.main import main\n"
        "sys.argv = ['envfarm', 'model', 'inspect', *sys.argv[1:]]\n"
        "main()\n"
    )
    return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def config() -> MiMoConfig:
    small = {
        "vocab_size": 97,
        "hidden_size": 40,
        "intermediate_size": 130,
        "moe_intermediate_size": 28,
        "num_hidden_layers": 3,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "swa_num_attention_heads": 8,
        "swa_num_key_value_heads": 8,
        "hybrid_layer_pattern": [0, 1, 1],
        "moe_layer_freq": [0, 1, 1],
    }
    return parse_config(json.dumps({**json.loads(REAL.read_bytes()), **small}))


def entries_of(config: MiMoConfig) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return what a real checkpoint of this size stores, the keys of global layers as four shards."""
    entries = []
    for parameter in parameters(config):
        entries.append((parameter.name, DTYPES[parameter.storage], parameter.shape))
        if parameter.storage is Storage.FP8:
            scales = (8, 1) if parameter.shape == (768, 40) else scale_shape(parameter.shape)
            entries.append((parameter.name + SCALE_SUFFIX, "F32", scales))
    return entries


def write(folder: Path, config: MiMoConfig, entries: list[tuple[str, str, tuple[int, ...]]]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(render_config(config, fp8=True))
    half = len(entries) // 2
    weight_map = {}
    for file, part in (("one.safetensors", entries[:half]), ("two.safetensors", entries[half:])):
        size = sum(prod(shape) * ITEM_BYTES[dtype] for _, dtype, shape in part)
        (folder / file).write_bytes(render_header(part) + bytes(size))
        weight_map |= {name: file for name, _, _ in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def test_the_real_configuration_is_told_without_weights() -> None:
    done = inspect(REAL)
    assert done.returncode == 0, done.stderr
    for words in ("308.78 B", "15.45 B", "9 global, 39 window of 128", "no weights", "3,045,657,600", "5.29"):
        assert words in done.stdout, words
    told = json.loads(inspect(REAL, "--json").stdout)
    assert told["parameters"]["total"] == 308_778_780_864
    assert told["parameters"]["active"] == 15_445_936_320
    assert [row["tokens"] for row in told["key_values"]] == [4_096, 32_768, 131_072, 262_144]
    assert told["key_values"][2]["hybrid"] == (9 * 4 * 131_072 + 39 * 8 * 129) * 640
    assert (told["has_weights"], told["misfits"]) == (False, None)


def test_a_whole_checkpoint_fits(config: MiMoConfig, tmp_path: Path) -> None:
    folder = write(tmp_path / "m", config, entries_of(config))
    done = inspect(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "every weight that config.json asks for is there, and no other" in done.stdout
    told = json.loads(inspect(folder, "--json").stdout)
    assert told["misfits"] == {"missing": [], "unexpected": [], "misshapen": []}
    stored = dict.fromkeys(DTYPES.values(), 0)
    for _, dtype, shape in entries_of(config):
        stored[dtype] += prod(shape) * ITEM_BYTES[dtype]
    assert told["stored_bytes"] == stored


def test_misfits_are_named(config: MiMoConfig, tmp_path: Path) -> None:
    gone = {"model.layers.1.self_attn.attention_sink_bias", "model.layers.2.mlp.experts.3.up_proj.weight_scale_inv"}
    wrong: dict[str, tuple[str, str, tuple[int, ...]]] = {
        "model.norm.weight": ("model.norm.weight", "BF16", (41,)),
        "model.layers.0.self_attn.k_proj.weight_scale_inv": (
            "model.layers.0.self_attn.k_proj.weight_scale_inv", "F32", (7, 1),
        ),
        "lm_head.weight": ("lm_head.weight_v", "BF16", (97, 40)),
    }  # fmt: skip
    entries = [wrong.get(entry[0], entry) for entry in entries_of(config) if entry[0] not in gone]
    folder = write(tmp_path / "m", config, entries)
    done = inspect(folder)
    assert (done.returncode, done.stderr) == (1, "")
    misfits: dict[str, Any] = json.loads(inspect(folder, "--json").stdout)["misfits"]
    assert set(misfits["missing"]) == gone | {"lm_head.weight"}
    assert misfits["unexpected"] == ["lm_head.weight_v"]
    assert [text.split(" (")[0].split(":")[0] for text in misfits["misshapen"]] == [
        "model.layers.0.self_attn.k_proj.weight",
        "model.norm.weight",
    ]
    for name in (*gone, "lm_head.weight_v", "model.norm.weight (asked [40], stored [41])"):
        assert name in done.stdout


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: (f / "two.safetensors").unlink(), "of 2 shards 1 are missing: two.safetensors"),
        (lambda f: (f / "one.safetensors").write_bytes(b"garbage"), "one.safetensors: it is truncated"),
        (lambda f: (f / "config.json").unlink(), "config.json: cannot be read"),
        (lambda f: (f / "config.json").write_text('{"model_type": "mimo_v2"}'), "'mimo_v2' with a fused qkv_proj"),
        (lambda f: (f / "model.safetensors.index.json").write_text("[]"), "a JSON object with a weight_map"),
    ],
)
def test_a_damaged_folder_is_one_line_and_exit_code_2(
    config: MiMoConfig, tmp_path: Path, change: Any, told: str
) -> None:
    folder = write(tmp_path / "m", config, entries_of(config))
    change(folder)
    done = inspect(folder)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
