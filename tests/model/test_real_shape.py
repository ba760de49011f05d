"""The 309 B model on the meta device: every name, shape and type, against the checkpoint's list written down here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from envfarm.model.config import MiMoConfig
from envfarm.model.config_json import parse_config
from envfarm.model.mimo import MiMo
from envfarm.model.parameter_table import Parameter, count_parameters, parameters

ROOT = Path(__file__).parents[1]
GLOBAL = (0, 5, 11, 17, 23, 29, 35, 41, 47)


@pytest.fixture(scope="module")
def config() -> MiMoConfig:
    return parse_config((ROOT / "data/model/config.json").read_bytes())


@pytest.fixture(scope="module")
def model(config: MiMoConfig) -> MiMo:
    return MiMo(config, dtype=torch.bfloat16, device="meta")


def attention(prefix: str, kv_heads: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{prefix}.self_attn.q_proj.weight", (12288, 4096)
    yield f"{prefix}.self_attn.k_proj.weight", (kv_heads * 192, 4096)
    yield f"{prefix}.self_attn.v_proj.weight", (kv_heads * 128, 4096)
    yield f"{prefix}.self_attn.o_proj.weight", (4096, 8192)


def feed_forward(prefix: str, inner: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{prefix}.gate_proj.weight", (inner, 4096)
    yield f"{prefix}.up_proj.weight", (inner, 4096)
    yield f"{prefix}.down_proj.weight", (4096, inner)


def expected() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (152576, 4096)
    yield "model.norm.weight", (4096,)
    yield "lm_head.weight", (152576, 4096)
    for i in range(48):
        layer = f"model.layers.{i}"
        yield f"{layer}.input_layernorm.weight", (4096,)
        yield f"{layer}.post_attention_layernorm.weight", (4096,)
        yield from attention(layer, 4 if i in GLOBAL else 8)
        if i not in GLOBAL:
            yield f"{layer}.self_attn.attention_sink_bias", (64,)
        if i == 0:
            yield from feed_forward(f"{layer}.mlp", 16384)
            continue
        yield f"{layer}.mlp.gate.weight", (256, 4096)
        yield f"{layer}.mlp.gate.e_score_correction_bias", (256,)
        for e in range(256):
            yield from feed_forward(f"{layer}.mlp.experts.{e}", 2048)
    for k in range(3):
        block = f"model.mtp.layers.{k}"
        for norm in ("enorm", "hnorm", "final_layernorm", "input_layernorm", "pre_mlp_layernorm"):
            yield f"{block}.{norm}.weight", (4096,)
        yield f"{block}.eh_proj.weight", (4096, 8192)
        yield from attention(block, 8)
        yield f"{block}.self_attn.attention_sink_bias", (64,)
        yield from feed_forward(f"{block}.mlp", 16384)


def test_every_name_and_shape_is_the_checkpoints(model: MiMo) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert found == dict(expected())


def test_the_parameter_table_says_the_same(config: MiMoConfig) -> None:
    assert {parameter.name: parameter.shape for parameter in parameters(config)} == dict(expected())


def test_it_has_308_78_billion_weights_and_15_45_active(config: MiMoConfig, model: MiMo) -> None:
    sizes = {name: tensor.numel() for name, tensor in model.state_dict().items() if ".mtp." not in name}
    assert f"{sum(sizes.values()) / 1e9:.2f}" == "308.78"
    experts = sum(size for name, size in sizes.items() if ".mlp.experts." in name)
    active = sum(sizes.values()) - experts + experts * 8 // 256
    assert f"{active / 1e9:.2f}" == "15.45"
    counts = count_parameters(config)
    assert (counts.total, counts.active) == (sum(sizes.values()), active)
    stacked = sum(parameter.numel() for name, parameter in model.named_parameters() if ".mtp." not in name)
    assert stacked == counts.total - 47 * 256, "the correction biases are no parameters, everything else is"


def test_routers_are_float32_and_everything_else_is_what_was_asked_for(model: MiMo) -> None:
    wide = {name for name, tensor in model.state_dict().items() if tensor.dtype is torch.float32}
    kinds = ("weight", "e_score_correction_bias")
    assert wide == {f"model.layers.{i}.mlp.gate.{kind}" for i in range(1, 48) for kind in kinds}


def test_the_table_stores_each_tensor_as_the_checkpoint_does(config: MiMoConfig) -> None:
    def storage(parameter: Parameter) -> str:
        *_, module, kind = parameter.name.split(".")
        if module == "gate":
            return "f32"
        names = {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"}
        return "fp8" if module in names and kind == "weight" else "bf16"

    assert all(str(parameter.storage) == storage(parameter) for parameter in parameters(config))
