"""The model's config.json: the real fields, any size, and what is refused by name; none of it needs torch."""

import json
from pathlib import Path
from typing import Any

import pytest

from envfarm.errors import CheckpointError
from envfarm.model.config import LayerKind
from envfarm.model.config_json import parse_config, render_config
from envfarm.model.kv_bytes import key_value_bytes
from envfarm.model.parameter_table import count_parameters

REAL = (Path(__file__).parents[1] / "data/model/config.json").read_text(encoding="utf-8")


def changed(**changes: Any) -> str:
    return json.dumps({**json.loads(REAL), **changes})


def without(key: str) -> str:
    return json.dumps({name: value for name, value in json.loads(REAL).items() if name != key})


def test_the_real_fields_are_understood() -> None:
    config = parse_config(REAL)
    assert [n for n in range(48) if config.kind_of(n) is LayerKind.GLOBAL] == [0, 5, 11, 17, 23, 29, 35, 41, 47]
    assert [n for n in range(48) if not config.has_experts(n)] == [0]
    assert (config.rotary_dim(LayerKind.GLOBAL), config.rotary_dim(LayerKind.WINDOW)) == (64, 64)
    whole, window = config.attention(LayerKind.GLOBAL), config.attention(LayerKind.WINDOW)
    assert (whole.kv_heads, whole.rope_theta, whole.has_sink, whole.reach_tokens) == (4, 5e6, False, None)
    assert (window.kv_heads, window.rope_theta, window.has_sink, window.reach_tokens) == (8, 1e4, True, 128)
    assert (config.routed_scaling_factor, config.num_nextn_predict_layers) == (1.0, 3)
    assert (config.layernorm_epsilon, config.eos_token_id, config.pad_token_id) == (1e-5, 151645, 151643)


def test_the_real_sizes() -> None:
    counts = count_parameters(parse_config(REAL))
    assert (f"{counts.total / 1e9:.2f}", f"{counts.active / 1e9:.2f}") == ("308.78", "15.45")


def test_the_other_window_convention_counts_the_token_itself() -> None:
    config = parse_config(changed(sliding_window_includes_self=True))
    assert config.attention(LayerKind.WINDOW).reach_tokens == 127


def test_a_value_scale_of_null_is_one_and_an_absent_one_is_the_real_models() -> None:
    assert parse_config(changed(attention_value_scale=None)).attention_value_scale == 1.0
    assert parse_config(without("attention_value_scale")).attention_value_scale == 0.707
    assert parse_config(changed(attention_value_scale=0.5)).attention_value_scale == 0.5


def test_rope_parameters_are_not_written_and_null_is_read() -> None:
    assert "rope_parameters" not in json.loads(render_config(parse_config(changed(rope_parameters=None)), fp8=False))


def test_everything_of_a_dense_model_is_active() -> None:
    dense = changed(moe_layer_freq=[0] * 48, n_routed_experts=0, num_experts_per_tok=0)
    counts = count_parameters(parse_config(dense))
    assert counts.active == counts.total > 0


def test_sliding_window_size_goes_first() -> None:
    assert parse_config(changed(sliding_window=129, sliding_window_size=128)).sliding_window == 128
    assert parse_config(changed(sliding_window=64, sliding_window_size=None)).sliding_window == 64


@pytest.mark.parametrize("fp8", [True, False])
def test_what_we_write_is_read_as_the_same(fp8: bool) -> None:  # noqa: FBT001 -- pytest's parameter
    for text in (REAL, changed(sliding_window_includes_self=True, num_nextn_predict_layers=0, rope_theta=640_000)):
        config = parse_config(text)
        assert parse_config(render_config(config, fp8=fp8)) == config
    assert ("quantization_config" in json.loads(render_config(config, fp8=fp8))) == fp8


def test_what_we_write_has_the_real_keys_and_values() -> None:
    real, ours = json.loads(REAL), json.loads(render_config(parse_config(REAL), fp8=True))
    ours["quantization_config"]["ignored_layers"] = real["quantization_config"]["ignored_layers"]
    ours["routed_scaling_factor"] = None
    assert {key: ours.get(key) for key in real} == real


REFUSED: dict[str, tuple[str, str]] = {
    "not JSON": ("{", "not JSON"),
    "no object": ("[]", "JSON object"),
    "V2.5": (changed(model_type="mimo_v2"), "'mimo_v2' with a fused qkv_proj"),
    "fused under the old name": (changed(attention_projection_layout="fused_qkv"), "fused qkv_proj"),
    "another model": (changed(model_type="qwen3_moe"), "'qwen3_moe' is no architecture we know"),
    "no model_type": (without("model_type"), "None is no architecture we know"),
    "a missing field": (without("swa_head_dim"), "swa_head_dim is missing"),
    "a missing pattern": (without("hybrid_layer_pattern"), "hybrid_layer_pattern is missing"),
    "null": (changed(hidden_size=None), "hidden_size has to be of type int"),
    "a number as text": (changed(hidden_size="4096"), "hidden_size has to be of type int, and is '4096'"),
    "a truth as number": (changed(hidden_size=True), "hidden_size has to be of type int"),
    "a number as truth": (changed(norm_topk_prob=1), "norm_topk_prob has to be of type bool"),
    "text in a pattern": (changed(moe_layer_freq=["0"] * 48), "moe_layer_freq has to be a list of integers"),
    "zero": (changed(vocab_size=0), "vocab_size has to be at least 1"),
    "no layers": (changed(hybrid_layer_pattern=[], moe_layer_freq=[], num_hidden_layers=0), "num_hidden_layers"),
    "patterns of two lengths": (changed(moe_layer_freq=[0] * 47), "moe_layer_freq has 47 entries"),
    "another number of layers": (changed(num_hidden_layers=47), "num_hidden_layers is 47"),
    "a pattern of threes": (changed(hybrid_layer_pattern=[3] * 48), "hybrid_layer_pattern may hold 0 and 1 only"),
    "heads that cannot share": (changed(num_key_value_heads=5), "64 query heads cannot share 5"),
    "more experts than there are": (changed(num_experts_per_tok=257), "from 1 to n_routed_experts"),
    "odd rotary": (changed(partial_rotary_factor=0.33), "turns 63 of 192"),
    "no rotary": (changed(partial_rotary_factor=0.001), "turns 0 of 192"),
    "groups of experts": (changed(n_group=8), "n_group is 8"),
    "another router": (changed(scoring_func="softmax"), "scoring_func is 'softmax'"),
    "another activation": (changed(hidden_act="gelu"), "hidden_act is 'gelu'"),
    "shared experts": (changed(n_shared_experts=1), "n_shared_experts is 1"),
    "tied embeddings": (changed(tie_word_embeddings=True), "tie_word_embeddings is True"),
    "biases": (changed(attention_bias=True), "attention_bias is True"),
    "scaled rotary": (changed(rope_scaling={"type": "yarn"}), "rope_scaling is"),
    "rotary parameters": (changed(rope_parameters={"rope_type": "yarn", "factor": 4}), "rope_parameters is"),
    "quantisation as text": (changed(quantization_config="fp8"), "quantization_config has to be a JSON object"),
    "quantisation as list": (changed(quantization_config=[1]), "quantization_config has to be a JSON object"),
    "blocks as a number": (changed(quantization_config={"weight_block_size": 128}), "in blocks of 128"),
    "a method as list": (changed(quantization_config={"quant_method": ["fp8"]}), "quantization ['fp8']"),
    "brackets without end": ("[" * 100_000, "not JSON"),
    "deep nesting": (REAL.replace("{", '{"x": ' + "[" * 100_000 + "]" * 100_000 + ", ", 1), "not JSON"),
    "a number that fits into no float": (changed(rope_theta=10**400), "rope_theta is no number that a model can have"),
    "an infinite number": (changed(rope_theta=float("inf")), "rope_theta is no number that a model can have"),
    "not a number": (changed(layernorm_epsilon=float("nan")), "layernorm_epsilon is no number that a model can have"),
    "a size without end": (changed(head_dim=10**400), "head_dim is no number that a model can have"),
    "layers as text": (changed(num_hidden_layers="48"), "num_hidden_layers is 48"),
    "layers as list": (changed(num_hidden_layers=[48]), "num_hidden_layers is [48]"),
    "more than a whole head": (changed(partial_rotary_factor=1e18), "partial_rotary_factor has to be above 0"),
    "another quantisation": (changed(quantization_config={"quant_method": "awq"}), "'awq'"),
    "other blocks": (changed(quantization_config={"weight_block_size": [64, 64]}), r"[64, 64]"),
}


@pytest.mark.parametrize(("text", "told"), REFUSED.values(), ids=REFUSED)
def test_what_we_would_compute_wrongly_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(CheckpointError) as error:
        parse_config(text)
    assert str(error.value).startswith("config.json: ")
    assert told in str(error.value)


def test_key_value_bytes_are_what_the_layers_keep() -> None:
    """At 128 K: 9 global layers of 4 heads, 39 windows of 129 tokens and 8 heads, 192 + 128 numbers of 2 bytes."""
    row = key_value_bytes(parse_config(REAL), 131_072)
    assert row.hybrid == (9 * 4 * 131_072 + 39 * 8 * 129) * 320 * 2
    assert row.all_global == 48 * 4 * 131_072 * 320 * 2
    assert row.ratio == pytest.approx(48 / 9, rel=0.01)
    short = key_value_bytes(parse_config(REAL), 10)
    assert short.hybrid == (9 * 4 + 39 * 8) * 10 * 320 * 2
