"""Routing and experts: against one loop over tokens, both ways of computing, replay, names in the state dict."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from envfarm.model.experts import MixtureOfExperts
from envfarm.model.layout import Layout
from envfarm.model.mimo import MiMo

Make = Callable[..., Any]


def layer_of(model: MiMo) -> MixtureOfExperts:
    layer = model.model.layers[1].mlp
    assert isinstance(layer, MixtureOfExperts)
    return layer


def reference(layer: MixtureOfExperts, x: Tensor) -> Tensor:
    """Return one token's output, expert by expert."""
    state = layer.state_dict()
    scores = (state["gate.weight"] @ x).sigmoid()
    order = sorted(range(8), key=lambda e: -float(scores[e] + state["gate.e_score_correction_bias"][e]))[:3]
    total = sum(scores[e] for e in order)
    out = torch.zeros_like(x)
    for e in order:
        gate, up = (state[f"experts.{e}.{name}.weight"] @ x for name in ("gate_proj", "up_proj"))
        out += scores[e] / total * (state[f"experts.{e}.down_proj.weight"] @ (functional.silu(gate) * up))
    return out


@pytest.mark.parametrize("tokens", [1, 5, 6, 64])
@torch.no_grad()
def test_any_number_of_tokens_gets_what_the_loop_gives(small_config: Make, make_model: Make, tokens: int) -> None:
    layer = layer_of(make_model(small_config()))
    x = torch.randn(1, tokens, 40, generator=torch.Generator().manual_seed(3))
    expected = torch.stack([reference(layer, row) for row in x[0]])
    torch.testing.assert_close(layer(x)[0][0], expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_the_bias_chooses_and_does_not_weigh(small_config: Make, make_model: Make) -> None:
    layer = layer_of(make_model(small_config()))
    x = torch.randn(4, 40, generator=torch.Generator().manual_seed(3))
    layer.gate.e_score_correction_bias.fill_(0.0)
    layer.gate.e_score_correction_bias[[2, 4, 6]] = 5.0
    routing = layer.gate(x)
    assert {tuple(sorted(row)) for row in routing.chosen_N_K.tolist()} == {(2, 4, 6)}
    scores = (x @ layer.gate.weight.T).sigmoid().gather(1, routing.chosen_N_K)
    torch.testing.assert_close(routing.weights_N_K, scores / scores.sum(-1, keepdim=True))


def test_replayed_experts_are_taken_and_the_router_still_learns(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    ids = torch.randint(0, 97, (2, 19), generator=torch.Generator().manual_seed(4))
    plain = model(ids)
    chosen = [routing.chosen_N_K.view(2, 19, 3) for routing in plain.routings]
    assert len(chosen) == 4
    torch.testing.assert_close(model(ids, replayed=chosen).hidden_B_T_D, plain.hidden_B_T_D, atol=0, rtol=0)
    other = [(numbers + 1) % 8 for numbers in chosen]
    replayed = model(ids, replayed=other)
    assert all(
        torch.equal(routing.chosen_N_K.view(2, 19, 3), numbers)
        for routing, numbers in zip(replayed.routings, other, strict=True)
    )
    assert (replayed.hidden_B_T_D - plain.hidden_B_T_D).abs().max() > 1e-2
    replayed.hidden_B_T_D.square().mean().backward()
    assert all(layer.mlp.gate.weight.grad.abs().max() > 0 for layer in model.model.layers[1:])


def test_routers_stay_in_float32(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config(), dtype=torch.bfloat16)
    wide = {name for name, tensor in model.state_dict().items() if tensor.dtype is torch.float32}
    assert wide == {
        f"model.layers.{layer}.mlp.gate.{name}"
        for layer in (1, 2, 3, 4)
        for name in ("weight", "e_score_correction_bias")
    }
    ids = torch.randint(0, 97, (1, 9), generator=torch.Generator().manual_seed(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = make_model(small_config())(ids)
    assert {routing.scores_N_E.dtype for routing in result.routings} == {torch.float32}


def test_the_state_dict_goes_in_and_out_and_says_what_does_not_fit(small_config: Make, make_model: Make) -> None:
    model, other = make_model(small_config()), make_model(small_config(), seed=7)
    state = model.state_dict()
    other.load_state_dict(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in other.state_dict().items())
    name = "model.layers.1.mlp.experts.3.up_proj.weight"
    with pytest.raises(RuntimeError, match=name):
        other.load_state_dict({key: value for key, value in state.items() if key != name})
    with pytest.raises(RuntimeError, match=name):
        other.load_state_dict({**state, name: torch.zeros(3, 3)})
    with pytest.raises(RuntimeError, match=r"experts\.8\.up_proj"):
        other.load_state_dict({**state, "model.layers.1.mlp.experts.8.up_proj.weight": torch.zeros(28, 40)})


@torch.no_grad()
def test_packed_documents_do_not_see_one_another(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    ids = torch.randint(0, 97, (1, 34), generator=torch.Generator().manual_seed(4))
    documents = torch.tensor([[0] * 9 + [1] * 18 + [2] * 7])
    packed = model(ids, Layout.packed(documents)).hidden_B_T_D
    alone = [model(ids[:, start:stop]).hidden_B_T_D for start, stop in ((0, 9), (9, 27), (27, 34))]
    torch.testing.assert_close(packed, torch.cat(alone, dim=1), atol=1e-5, rtol=1e-5)
