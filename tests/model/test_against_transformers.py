"""Our model and transformers' own, with the same random weights in float32: logits agree to 1e-5."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from envfarm.model.checkpoint_reader import load_model
from envfarm.model.checkpoint_writer import write_checkpoint
from envfarm.model.config import MiMoConfig
from envfarm.model.key_value_cache import KeyValueCache
from envfarm.model.layout import Layout
from envfarm.model.mimo import MiMo
from envfarm.model.parameter_table import Storage

Make = Callable[..., Any]
CASES: dict[str, dict[str, Any]] = {
    "as the real one": {},
    "window counts itself": {"sliding_window_includes_self": True},
    "window of one, itself": {"sliding_window": 1, "sliding_window_includes_self": True},
    "all global": {"hybrid_layer_pattern": (0, 0, 0), "moe_layer_freq": (0, 1, 1)},
    "all window": {"hybrid_layer_pattern": (1, 1, 1), "moe_layer_freq": (0, 1, 1)},
    "all dense": {"moe_layer_freq": (0, 0, 0, 0, 0)},
    "experts first, dense later": {"moe_layer_freq": (1, 0, 1, 0, 1)},
    "one expert for each token": {"num_experts_per_tok": 1},
    "all experts": {"num_experts_per_tok": 8},
    "weights not normalised, scaled": {"norm_topk_prob": False, "routed_scaling_factor": 2.5},
    "values wider than keys": {"head_dim": 12, "v_head_dim": 20, "swa_head_dim": 12, "swa_v_head_dim": 20},
    "other rotary bases": {"rope_theta": 640_000.0, "swa_rope_theta": 500.0, "partial_rotary_factor": 0.5},
    "no value scale": {"attention_value_scale": 1.0},
    "a large epsilon": {"layernorm_epsilon": 0.3},
}
LENGTHS = {"within a window": 5, "over several windows": 41}


@pytest.fixture(params=list(CASES))
def pair(request: pytest.FixtureRequest, small_config: Make, make_model: Make, make_twin: Make) -> tuple[MiMo, Any]:
    model = make_model(small_config(**CASES[request.param]))
    return model, make_twin(model)


@pytest.fixture(params=[name for name in CASES if name != "window of one, itself"])
def cached_pair(
    request: pytest.FixtureRequest, small_config: Make, make_model: Make, make_twin: Make
) -> tuple[MiMo, Any]:
    """All cases but one: their cache keeps everything where it should keep nothing; test_key_value_cache.py has it."""
    model = make_model(small_config(**CASES[request.param]))
    return model, make_twin(model)


def draw_tokens(model: MiMo, rows: int, tokens: int) -> torch.Tensor:
    return torch.randint(1, model.config.vocab_size, (rows, tokens), generator=torch.Generator().manual_seed(5))


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.std() > 0.1, "logits that say nothing agree too easily"
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tokens", LENGTHS.values(), ids=LENGTHS)
@torch.no_grad()
def test_prefill_agrees(pair: tuple[MiMo, Any], tokens: int) -> None:
    model, twin = pair
    ids = draw_tokens(model, 3, tokens)
    assert_same(model.lm_head(model(ids).hidden_B_T_D), twin(ids).logits)


@pytest.mark.parametrize("chunk", [1, 4, 15])
@torch.no_grad()
def test_cached_decode_agrees(cached_pair: tuple[MiMo, Any], chunk: int) -> None:
    model, twin = cached_pair
    ids = draw_tokens(model, 2, 34)
    cache, theirs = KeyValueCache(model.config, 2, draft_slots=3), None
    start = 0
    for stop in (19, *range(19 + chunk, 35, chunk)):
        layout = Layout.following(torch.full((2,), start), stop - start)
        ours = model.lm_head(model(ids[:, start:stop], layout, cache).hidden_B_T_D)
        answer = twin(ids[:, start:stop], cache=theirs, use_cache=True)
        theirs, start = answer.cache, stop
        assert_same(ours, answer.logits)


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_batches_with_padding_agree(pair: tuple[MiMo, Any], side: str) -> None:
    model, twin = pair
    real = torch.ones(3, 27, dtype=torch.int64)
    for row, missing in enumerate((0, 4, 20)):
        real[row, slice(0, missing) if side == "left" else slice(27 - missing, 27)] = 0
    ids = draw_tokens(model, 3, 27) * real
    positions = (real.cumsum(1) - 1).clamp(min=0)
    ours = model.lm_head(model(ids, Layout.padded(real)).hidden_B_T_D)
    theirs = twin(ids, attention_mask=real, position_ids=positions).logits
    assert_same(ours[real.bool()], theirs[real.bool()])


@torch.no_grad()
def test_cached_decode_of_a_batch_with_padding_agrees(cached_pair: tuple[MiMo, Any]) -> None:
    model, twin = cached_pair
    real = torch.ones(3, 29, dtype=torch.int64)
    real[1, :3] = real[2, :17] = 0
    ids = draw_tokens(model, 3, 29) * real
    positions = (real.cumsum(1) - 1).clamp(min=0)
    cache, theirs = KeyValueCache(model.config, 3), None
    layout = Layout.padded(real)
    start = 0
    for stop in (20, *range(21, 30)):
        part = Layout(layout.positions_B_T[:, start:stop])
        ours = model.lm_head(model(ids[:, start:stop], part, cache).hidden_B_T_D)
        answer = twin(
            ids[:, start:stop],
            attention_mask=real[:, :stop],
            position_ids=positions[:, start:stop],
            cache=theirs,
            use_cache=True,
        )
        theirs = answer.cache
        seen = real[:, start:stop].bool()
        start = stop
        assert_same(ours[seen], answer.logits[seen])


@torch.no_grad()
def test_the_window_conventions_differ(small_config: Make, make_model: Make, make_twin: Make) -> None:
    model = make_model(small_config())
    other = make_model(small_config(sliding_window_includes_self=True))
    ids = draw_tokens(model, 1, 41)
    difference = (other.lm_head(other(ids).hidden_B_T_D) - make_twin(model)(ids).logits).abs()
    assert difference[:, :6].max() < 1e-5, "seven tokens and fewer see the same"
    assert difference[:, 6:].amax(-1).min() > 1e-4


@torch.no_grad()
def test_their_loader_reads_what_we_write(
    tmp_path: Path, small_config: Make, make_model: Make, twin_config: Make
) -> None:
    from transformers import MiMoV2FlashForCausalLM

    model = make_model(small_config())
    write_checkpoint(model, tmp_path / "model", smallest=Storage.F32, shard_bytes=60_000)
    theirs, told = MiMoV2FlashForCausalLM.from_pretrained(
        tmp_path / "model", config=twin_config(model.config), dtype=torch.float32, output_loading_info=True
    )
    assert (told["missing_keys"], told["mismatched_keys"]) == (set(), set())
    assert all(name.startswith("model.mtp.") for name in told["unexpected_keys"])
    ids = draw_tokens(model, 2, 41)
    assert_same(model.lm_head(model(ids).hidden_B_T_D), theirs.eval()(ids).logits)


@torch.no_grad()
def test_their_loader_reads_our_fp8(tmp_path: Path, small_config: Make, make_model: Make, twin_config: Make) -> None:
    """Whole tiles only: theirs divides rows by rows of scales, and so reads edge tiles wrongly."""
    from transformers import MiMoV2FlashForCausalLM

    sizes = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "moe_intermediate_size": 128,
        "head_dim": 64,
        "v_head_dim": 64,
    }
    window = {"swa_head_dim": 64, "swa_v_head_dim": 64, "partial_rotary_factor": 0.25}
    written = make_model(small_config(**sizes, **window))
    write_checkpoint(written, tmp_path / "model")
    model = load_model(tmp_path / "model")
    config = twin_config(model.config)
    stored = json.loads((tmp_path / "model/config.json").read_bytes())["quantization_config"]
    config.quantization_config = {**stored, "dequantize": True}
    theirs = MiMoV2FlashForCausalLM.from_pretrained(tmp_path / "model", config=config, dtype=torch.float32).eval()
    ours = model.state_dict()
    for name, tensor in theirs.state_dict().items():
        if name in ours:
            assert torch.equal(tensor.float(), ours[name]), name
    assert not torch.equal(
        ours["model.layers.1.self_attn.q_proj.weight"], written.state_dict()["model.layers.1.self_attn.q_proj.weight"]
    )
    ids = draw_tokens(model, 2, 41)
    found, expected = model.lm_head(model(ids).hidden_B_T_D), theirs(ids).logits
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_gradients_agree(small_config: Make, make_model: Make, make_twin: Make) -> None:
    config: MiMoConfig = small_config()
    model = make_model(config)
    twin = make_twin(model)
    ids = draw_tokens(model, 2, 41)
    model.lm_head(model(ids).hidden_B_T_D).square().mean().backward()
    twin(ids).logits.square().mean().backward()
    theirs = {
        name.replace("self_attn.sinks", "self_attn.attention_sink_bias"): p for name, p in twin.named_parameters()
    }
    compared = 0
    for name, parameter in model.named_parameters():
        if name in theirs:
            assert theirs[name].grad.abs().max() > 1e-6, name
            torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=2e-6, rtol=1e-4, msg=name)
            compared += 1
    assert compared == len(theirs)
