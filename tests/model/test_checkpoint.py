"""Checkpoints written and read: equal weights, the format's own library, bounded memory, damage told by name."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from envfarm.errors import CheckpointError, OutputFolderError
from envfarm.model.checkpoint_files import open_checkpoint
from envfarm.model.checkpoint_reader import iterate_weights, load_model
from envfarm.model.checkpoint_writer import write_checkpoint
from envfarm.model.fp8 import dequantise, quantise
from envfarm.model.inspection import inspect_checkpoint
from envfarm.model.mimo import MiMo
from envfarm.model.parameter_table import Storage, parameters

Make = Callable[..., Any]


@pytest.fixture
def model(small_config: Make, make_model: Make) -> MiMo:
    made: MiMo = make_model(small_config())
    return made


@pytest.mark.parametrize("shard_bytes", [1, 60_000, 10**9])
def test_float32_comes_back_as_it_was(model: MiMo, tmp_path: Path, shard_bytes: int) -> None:
    write_checkpoint(model, tmp_path / "m", smallest=Storage.F32, shard_bytes=shard_bytes)
    again = load_model(tmp_path / "m")
    assert again.config == model.config
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())
    files = sorted(path.name for path in (tmp_path / "m").glob("*.safetensors"))
    assert files == ["model.safetensors"] or files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert (len(files) == 1) == (shard_bytes == 10**9)
    assert not inspect_checkpoint(tmp_path / "m").misfits
    assert not (tmp_path / "m.unfinished").exists()


def test_fp8_is_stored_as_the_real_checkpoint_is(model: MiMo, tmp_path: Path) -> None:
    from safetensors import safe_open

    write_checkpoint(model, tmp_path / "m")
    state = model.state_dict()
    again = load_model(tmp_path / "m").state_dict()
    with safe_open(tmp_path / "m/model.safetensors", "pt") as theirs:
        names = set(theirs.keys())
        for parameter in parameters(model.config):
            names.discard(parameter.name)
            stored = theirs.get_tensor(parameter.name)
            if parameter.storage is Storage.FP8:
                names.discard(parameter.name + "_scale_inv")
                numbers, scales = quantise(state[parameter.name])
                assert torch.equal(stored.view(torch.uint8), numbers.view(torch.uint8))
                assert torch.equal(theirs.get_tensor(parameter.name + "_scale_inv"), scales)
                expected = dequantise(parameter.name, numbers, scales, torch.float32)
            else:
                dtype = {Storage.BF16: torch.bfloat16, Storage.F32: torch.float32}[parameter.storage]
                assert stored.dtype is dtype
                expected = state[parameter.name].to(dtype).float()
            assert torch.equal(again[parameter.name], expected)
    assert names == set()
    config = json.loads((tmp_path / "m/config.json").read_bytes())
    assert config["quantization_config"]["weight_block_size"] == [128, 128]


def test_a_checkpoint_written_again_is_the_same(model: MiMo, tmp_path: Path) -> None:
    write_checkpoint(model, tmp_path / "one")
    write_checkpoint(load_model(tmp_path / "one"), tmp_path / "two")
    one, two = (load_model(tmp_path / name).state_dict() for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=0, rtol=1e-6, msg=name)


def test_files_of_the_formats_library_are_read(model: MiMo, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    write_checkpoint(model, tmp_path / "m", smallest=Storage.F32)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["model.norm.weight"] = state["model.norm.weight"].half()
    save_file(state, tmp_path / "m/model.safetensors")
    again = load_model(tmp_path / "m", dtype=torch.bfloat16)
    assert torch.equal(again.lm_head.weight, model.lm_head.weight.bfloat16())
    assert again.state_dict()["model.layers.1.mlp.gate.weight"].dtype is torch.float32


def test_the_sharded_keys_of_the_real_export_are_read(small_config: Make, make_model: Make, tmp_path: Path) -> None:
    """Four key-value heads of 192, quantised in four shards: eight rows of scales where six would do."""
    from safetensors.torch import save_file

    model = make_model(
        small_config(num_key_value_heads=4, swa_num_key_value_heads=8, head_dim=192, hybrid_layer_pattern=(0, 1),
                     moe_layer_freq=(0, 1))
    )  # fmt: skip
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    name = "model.layers.0.self_attn.k_proj.weight"
    shards = [quantise(part) for part in state[name].chunk(4)]
    state[name] = torch.cat([numbers.view(torch.uint8) for numbers, _ in shards]).view(torch.float8_e4m3fn)
    state[name + "_scale_inv"] = torch.cat([scales for _, scales in shards])
    assert state[name + "_scale_inv"].shape == (8, 1)
    write_checkpoint(model, tmp_path / "m", smallest=Storage.F32)
    save_file(state, tmp_path / "m/model.safetensors")
    found = load_model(tmp_path / "m").state_dict()[name]
    expected = torch.cat([dequantise("part", *shard, torch.float32) for shard in shards])
    assert torch.equal(found, expected)
    save_file({**state, name + "_scale_inv": torch.ones(7, 1)}, tmp_path / "m/model.safetensors")
    with pytest.raises(CheckpointError, match=r"layers\.0\.self_attn\.k_proj\.weight: scales of shape \[7, 1\]"):
        load_model(tmp_path / "m")


def test_weights_are_read_one_by_one(tmp_path: Path, small_config: Make, make_model: Make) -> None:
    """A process that goes through 60 MB in tensors of at most 4 MB grows by a few of those, not by the file."""
    config = small_config(hidden_size=256, vocab_size=4096, moe_intermediate_size=512, n_routed_experts=8)
    model = make_model(config)
    write_checkpoint(model, tmp_path / "m", smallest=Storage.F32)
    assert (tmp_path / "m/model.safetensors").stat().st_size > 60_000_000
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from envfarm.model.checkpoint_files import open_checkpoint\n"
        "from envfarm.model.checkpoint_reader import iterate_weights\n"
        "import torch\n"
        "torch.ones(8).sum()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "total = 0\n"
        "for name, weight in iterate_weights(open_checkpoint(Path(sys.argv[1]))):\n"
        "    total += weight.numel() * 4\n"
        "    del weight\n"
        "print(total, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "m"], capture_output=True, text=True, check=True)
    total, grown = map(int, done.stdout.split())
    assert total > 60_000_000
    assert grown < 20_000_000


def test_an_interrupted_write_leaves_nothing(model: MiMo, tmp_path: Path) -> None:
    model.state_dict()["model.norm.weight"][3] = float("nan")
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight: it holds numbers that are not finite"):
        write_checkpoint(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_full_folder_is_left_alone(model: MiMo, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/mine.txt").write_text("mine")
    with pytest.raises(OutputFolderError, match="lies there already"):
        write_checkpoint(model, tmp_path / "m")
    assert [path.name for path in tmp_path.rglob("*")] == ["m", "mine.txt"]


def test_damage_is_told_by_name(model: MiMo, tmp_path: Path) -> None:
    write_checkpoint(model, tmp_path / "m", smallest=Storage.F32, shard_bytes=60_000)
    last = max((tmp_path / "m").glob("*.safetensors"))

    def told(change: Callable[[Path], object]) -> str:
        damaged = tmp_path / "damaged"
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(tmp_path / "m", damaged)
        change(damaged)
        with pytest.raises(CheckpointError) as error:
            load_model(damaged)
        return str(error.value)

    def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        document = json.loads((folder / name).read_bytes())
        change(document)
        (folder / name).write_text(json.dumps(document))

    index = "model.safetensors.index.json"
    assert f"{last.name}: it is truncated" in told(lambda f: (f / last.name).write_bytes(last.read_bytes()[:-7]))
    assert f"1 are missing: {last.name}" in told(lambda f: (f / last.name).unlink())
    assert f"{last.name}: its header" in told(lambda f: (f / last.name).write_bytes(b"\x08" + bytes(7) + b"{}{}{}{}"))
    assert "missing: lm_head.weight" in told(lambda f: edit(f, index, lambda d: d["weight_map"].pop("lm_head.weight")))
    assert "unexpected: model.mtp.layers.2." in told(
        lambda f: edit(f, "config.json", lambda d: d.update(num_nextn_predict_layers=2))
    )
    assert "misshapen: model.embed_tokens.weight (asked [98, 40], stored [97, 40])" in told(
        lambda f: edit(f, "config.json", lambda d: d.update(vocab_size=98))
    )
    assert "same folder" in told(lambda f: edit(f, index, lambda d: d["weight_map"].update({"x": "../x.safetensors"})))
    assert f"{index}: it is missing, and says which weights lie in model-00001" in told(lambda f: (f / index).unlink())
    assert "1 are missing: xxx" in told(lambda f: edit(f, index, lambda d: d["weight_map"].update({"x": "x" * 300})))
    for text in ("[" * 100_000, '"weight_map"', "7", "null", '{"weight_map": []}', '{"weight_map": {"x": 5}}'):
        assert f"{index}: " in told(lambda f, text=text: (f / index).write_text(text))  # type: ignore[misc]
    assert "no weights" in told(lambda f: [path.unlink() for path in f.glob("model*")])


def test_weights_that_are_not_finite_are_refused(model: MiMo, tmp_path: Path) -> None:
    write_checkpoint(model, tmp_path / "m", smallest=Storage.F32)
    place = open_checkpoint(tmp_path / "m").tensors["model.layers.2.self_attn.o_proj.weight"]
    content = bytearray(place.path.read_bytes())
    content[place.place.offset + 40 : place.place.offset + 44] = b"\x00\x00\xc0\x7f"
    place.path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"layers\.2\.self_attn\.o_proj\.weight holds numbers that are not finite"
    ):
        load_model(tmp_path / "m")


def test_a_file_that_shrinks_while_it_is_read_is_told(model: MiMo, tmp_path: Path) -> None:
    write_checkpoint(model, tmp_path / "m", smallest=Storage.F32)
    files = open_checkpoint(tmp_path / "m")
    path = tmp_path / "m/model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="it ends inside"):
        list(iterate_weights(files))
