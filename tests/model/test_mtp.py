"""MTP blocks against an eager reference of the tests' own, which shares no code with the model."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from envfarm.model.config import MiMoConfig
from envfarm.model.key_value_cache import KeyValueCache
from envfarm.model.layout import Layout
from envfarm.model.mimo import MiMo

Make = Callable[..., Any]


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + epsilon).sqrt() * weight


def turned(x: Tensor, config: MiMoConfig) -> Tensor:
    """Turn [T, heads, size] as complex numbers."""
    count = int(config.swa_head_dim * config.partial_rotary_factor)
    rates = config.swa_rope_theta ** (-torch.arange(0, count, 2).float() / count)
    angles = torch.arange(x.shape[0])[:, None] * rates
    pairs = torch.complex(x[..., : count // 2], x[..., count // 2 : count]) * torch.exp(1j * angles)[:, None]
    return torch.cat((pairs.real, pairs.imag, x[..., count:]), dim=-1)


def attention(x: Tensor, weights: dict[str, Tensor], config: MiMoConfig) -> Tensor:
    """Return window attention of [T, D], one query and one head at a time."""
    heads, groups = config.swa_num_attention_heads, config.swa_num_key_value_heads
    q = turned((x @ weights["q_proj.weight"].T).reshape(len(x), heads, -1), config)
    k = turned((x @ weights["k_proj.weight"].T).reshape(len(x), groups, -1), config)
    v = (x @ weights["v_proj.weight"].T).reshape(len(x), groups, -1) * config.attention_value_scale
    rows = []
    for t in range(len(x)):
        first = max(0, t - config.sliding_window)
        parts = []
        for head in range(heads):
            group = head // (heads // groups)
            scores = (k[first : t + 1, group] @ q[t, head] / config.swa_head_dim**0.5).exp()
            shares = scores / (scores.sum() + weights["attention_sink_bias"][head].exp())
            parts.append(shares @ v[first : t + 1, group])
        rows.append(torch.cat(parts))
    return torch.stack(rows) @ weights["o_proj.weight"].T


def reference(model: MiMo, block: int, ids: Tensor, hidden: Tensor) -> Tensor:
    """Return what block k says in rows t = 0, 1, ... of one sequence: logits of token t + 2 + k."""
    state, config = model.state_dict(), model.config
    prefix = f"model.mtp.layers.{block}."
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    norms = {name.split(".")[0]: weight for name, weight in own.items() if "norm" in name}
    epsilon = config.layernorm_epsilon
    embedding = state["model.embed_tokens.weight"][ids[1 + block :]]
    both = norm(embedding, norms["enorm"], epsilon), norm(hidden[: len(embedding)], norms["hnorm"], epsilon)
    x = torch.cat(both, dim=-1) @ own["eh_proj.weight"].T
    inner = {name.removeprefix("self_attn."): weight for name, weight in own.items() if name.startswith("self_attn.")}
    x = x + attention(norm(x, norms["input_layernorm"], epsilon), inner, config)
    y = norm(x, norms["pre_mlp_layernorm"], epsilon)
    gate = y @ own["mlp.gate_proj.weight"].T
    x = x + (gate * gate.sigmoid() * (y @ own["mlp.up_proj.weight"].T)) @ own["mlp.down_proj.weight"].T
    return norm(x, norms["final_layernorm"], epsilon) @ state["lm_head.weight"].T


@pytest.mark.parametrize("block", [0, 1, 2])
@torch.no_grad()
def test_a_block_says_what_the_reference_says(small_config: Make, make_model: Make, block: int) -> None:
    model = make_model(small_config())
    ids = torch.randint(0, 97, (2, 23), generator=torch.Generator().manual_seed(4))
    hidden = model(ids).hidden_B_T_D
    found = model.lm_head(model.predict_all_further(ids, hidden)[block])
    expected = torch.stack([reference(model, block, ids[row], hidden[row]) for row in range(2)])
    assert expected.std() > 0.1
    assert found.shape == (2, 23 - 1 - block, 97)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_blocks_are_not_chained(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    ids = torch.randint(0, 97, (1, 12), generator=torch.Generator().manual_seed(4))
    hidden = model(ids).hidden_B_T_D
    before = model.predict_all_further(ids, hidden)
    for name, tensor in model.state_dict().items():
        if name.startswith("model.mtp.layers.0."):
            tensor.add_(1)
    after = model.predict_all_further(ids, hidden)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, True, True]


@torch.no_grad()
def test_a_block_with_its_cache_says_what_it_says_over_whole_rows(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    ids = torch.randint(0, 97, (1, 26), generator=torch.Generator().manual_seed(4))
    hidden = model(ids).hidden_B_T_D
    cache = KeyValueCache(model.config, 1, draft_slots=3)
    for block, whole in enumerate(model.predict_all_further(ids, hidden)):
        start, parts = 0, []
        for stop in (9, 10, 11, 15, 26 - 1 - block):
            layout = Layout.following(torch.tensor([start]), stop - start)
            shifted = ids[:, start + 1 + block : stop + 1 + block]
            parts.append(model.predict_further(block, shifted, hidden[:, start:stop], layout, cache))
            start = stop
        torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)


def test_embedding_and_head_are_shared(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    names = [name for name, _ in model.named_parameters()]
    assert [name for name in names if name.endswith(("embed_tokens.weight", "lm_head.weight"))] == [
        "model.embed_tokens.weight",
        "lm_head.weight",
    ]
    ids = torch.randint(0, 97, (1, 12), generator=torch.Generator().manual_seed(4))
    hidden = model(ids).hidden_B_T_D.detach()
    model.lm_head(model.predict_all_further(ids, hidden)[2]).square().mean().backward()
    assert model.model.embed_tokens.weight.grad.abs().sum() > 0
    assert model.lm_head.weight.grad.abs().sum() > 0


def test_a_model_without_blocks_has_none(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config(num_nextn_predict_layers=0))
    assert not any("mtp" in name for name in model.state_dict())
