"""Losses and gradients by the kernels are those of torch, and the same bits on every kind of processor and thread."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from envfarm.model.attention import Attention
from envfarm.model.config import LayerKind
from envfarm.model.experts import MixtureOfExperts
from envfarm.model.kernels import libraries
from envfarm.model.kernels.libraries import KINDS, Kind, open_library, usable_kinds
from envfarm.model.layout import Layout, visible_bias
from envfarm.model.mimo import MiMo
from envfarm.model.norm import RMSNorm
from envfarm.model.rotary import rotary_angles, turn
from envfarm.training.by_kernels import team
from envfarm.training.by_kernels.attention import Sight, attend
from envfarm.training.by_kernels.calls import Calls, choose_calls
from envfarm.training.by_kernels.experts import run_experts
from envfarm.training.by_kernels.head import mean_loss
from envfarm.training.by_kernels.losses import KernelLosses
from envfarm.training.by_kernels.rows import add_and_norm, gate
from envfarm.training.by_kernels.team import OpenMPTeam, WorkersTeam, find_openmp, make_team
from envfarm.training.losses import Losses, compute_losses
from envfarm.training.optimiser import make_optimiser
from envfarm.training.packing import Batch
from envfarm.training.presets import PRESETS, Recipe
from envfarm.training.schedule import Schedule
from envfarm.training.train_step import train_step

Make = Callable[..., Any]
USABLE = usable_kinds()
SHAPES: dict[str, dict[str, Any]] = {
    "odd sizes": {},
    "one head of keys, wide heads": {
        "num_attention_heads": 6,
        "num_key_value_heads": 1,
        "head_dim": 72,
        "v_head_dim": 40,
        "partial_rotary_factor": 0.5,
        "sliding_window": 70,
    },
    "more experts than most tokens reach": {"n_routed_experts": 37, "num_experts_per_tok": 5},
    "no experts, no sinks": {
        "moe_layer_freq": (0, 0, 0, 0, 0),
        "n_routed_experts": 0,
        "num_experts_per_tok": 0,
        "add_swa_attention_sink_bias": False,
    },
    "sinks everywhere": {
        "add_full_attention_sink_bias": True,
        "sliding_window_includes_self": True,
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.5,
    },
    "no blocks": {"num_nextn_predict_layers": 0},
}


def open_calls(kind: Kind = USABLE[0] if USABLE else KINDS[0], threads: int = 1) -> Calls:
    if kind not in USABLE:
        pytest.skip(f"this processor cannot run {kind.name}: use one that has {', '.join(sorted(kind.needs))}")
    return Calls(kind, threads)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_batch(rows: int = 3, tokens: int = 150) -> Batch:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, 97, (rows, tokens), generator=generator)
    documents = (torch.rand(rows, tokens, generator=generator) < 0.03).cumsum(1)
    documents[-1] = 0
    return Batch(ids, documents)


def gradients(model: MiMo, losses: Losses) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    total = losses.main + 0.1 * losses.balance + 0.3 * sum(losses.mtp)
    torch.autograd.backward(total)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp(min=1e-30))


@pytest.mark.parametrize("shape", SHAPES)
def test_losses_and_gradients_are_those_of_torch(shape: str, small_config: Make, make_model: Make) -> None:
    model, batch = make_model(small_config(**SHAPES[shape])), some_batch()
    theirs = compute_losses(model, batch, slice(1, 3))
    expected = gradients(model, theirs)
    ours = KernelLosses(open_calls(), model, torch.float32).compute(batch, slice(1, 3))
    found = gradients(model, ours)
    losses = [torch.stack((one.main, one.balance, *one.mtp)).detach() for one in (ours, theirs)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
    for routing, other in zip(ours.routings, theirs.routings, strict=True):
        assert torch.equal(routing.chosen_N_K, other.chosen_N_K)
    assert found.keys() == expected.keys()
    assert max(distance(found[name], expected[name]) for name in expected) < 1e-4


def test_bfloat16_is_as_near_as_torch_comes(small_config: Make, make_model: Make) -> None:
    """Without experts: another rounding sends some tokens elsewhere, which outweighs all else."""
    model, batch = make_model(small_config(**SHAPES["no experts, no sinks"])), some_batch()
    exact = gradients(model, compute_losses(model, batch, slice(1, 3)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = gradients(model, compute_losses(model, batch, slice(1, 3)))
    ours = gradients(model, KernelLosses(open_calls(), model, torch.bfloat16).compute(batch, slice(1, 3)))
    means = [sum(distance(found[name], exact[name]) for name in exact) / len(exact) for found in (ours, theirs)]
    assert means[0] < 1.1 * means[1]


def test_experts_in_bfloat16_are_nearer_than_torch_comes(small_config: Make) -> None:
    layer, x, pull = MixtureOfExperts(small_config()), drawn(200, 40).requires_grad_(), drawn(200, 40, seed=1)
    for number, parameter in enumerate(layer.parameters()):
        parameter.data = 0.15 * drawn(*parameter.shape, seed=number)
    inputs = [x, *layer.parameters()]
    exact = layer(x[None])[0][0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = layer(x[None])[0][0].float()
    ours = run_experts(open_calls(), x.bfloat16(), layer.gate(x), layer.experts).float()
    results = [[out.detach(), *torch.autograd.grad(out, inputs, pull)] for out in (exact, theirs, ours)]
    for expected, other, found in zip(*results, strict=True):
        assert 0 < distance(found, expected) < 1.05 * distance(other, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_bits_depend_on_neither_threads_nor_processor(dtype: torch.dtype, small_config: Make, make_model: Make) -> None:
    model, batch = make_model(small_config()), some_batch(4, 200)
    every = [open_calls(kind, threads) for kind in USABLE for threads in (1, 3)]
    every.append(open_calls(threads=3))
    every[-1]._team = WorkersTeam(3)
    computes = [KernelLosses(one, model, dtype) for one in every]
    found = [gradients(model, losses.compute(batch, slice(0, 2))) for losses in computes]
    for number, other in enumerate(found[1:]):
        assert all(torch.equal(other[name], found[0][name]) for name in other), number


def test_threads_are_those_of_torch_where_they_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    library = open_calls().library
    found = find_openmp()
    assert isinstance(make_team(library, 2), WorkersTeam if found is None else OpenMPTeam)
    for content in (b"", b"7f00-7f01 r-xp 00000000 00:00 1 /somewhere/else/libgomp.so.1\n"):
        (tmp_path / "maps").write_bytes(content)
        monkeypatch.setattr(team, "_MAPPED", tmp_path / "maps")
        assert find_openmp() is None
        assert isinstance(make_team(library, 2), WorkersTeam)
    monkeypatch.setattr(team, "_MAPPED", tmp_path / "nothing")
    assert find_openmp() is None


def attend_exactly(attention: Attention, x_N_D: Tensor, layout: Layout, bias: Tensor, theta: float) -> Tensor:
    """Return the same by plain products in float64."""
    shape, rows = attention.shape, len(layout.positions_B_T)
    cos, sin = rotary_angles(layout.positions_B_T, shape.head_dim // 2, theta)
    x = x_N_D.double().view(rows, -1, x_N_D.shape[1])
    q, k, v = (
        (x @ one.weight.double().t()).view(rows, x.shape[1], heads, -1)
        for one, heads in (
            (attention.q_proj, shape.heads),
            (attention.k_proj, shape.kv_heads),
            (attention.v_proj, shape.kv_heads),
        )
    )
    q, k, v = (turn(q, cos, sin).transpose(1, 2), turn(k, cos, sin).transpose(1, 2), v.transpose(1, 2))
    groups = shape.heads // shape.kv_heads
    scores = q @ k.repeat_interleave(groups, 1).transpose(2, 3) * shape.head_dim**-0.5 + bias
    if attention.attention_sink_bias is not None:
        sinks = attention.attention_sink_bias.double()[:, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat((scores, sinks), dim=-1)
    shares = scores.softmax(-1)[..., : x.shape[1]] * (bias == 0)
    out = shares @ (v * attention.value_scale).repeat_interleave(groups, 1)
    return out.transpose(1, 2).flatten(2).flatten(0, 1) @ attention.o_proj.weight.double().t()


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("kind", LayerKind)
def test_attention_is_that_of_float64(tokens: int, kind: LayerKind, small_config: Make) -> None:
    config = small_config(partial_rotary_factor=0.5, sliding_window=66)
    attention = Attention(config, kind)
    for number, parameter in enumerate(attention.parameters()):
        parameter.data = drawn(*parameter.shape, seed=number) * (0.3 if parameter.dim() > 1 else 1)
    third, half = tokens // 3, tokens // 2
    documents = torch.tensor([[0] * tokens, [7] * third + [-1] * (tokens - third - half) + [9] * half])
    layout, shape = Layout.packed(documents), config.attention(kind)
    bias = visible_bias(layout, layout, shape.reach_tokens, torch.float64)
    sight = Sight.of_layout(config, kind, layout)
    inputs = [drawn(2 * tokens, 40, seed=9).requires_grad_(), *attention.parameters()]
    pull = drawn(2 * tokens, 40, seed=10)
    outs = (
        attend(open_calls(), inputs[0], attention, sight),
        attend_exactly(attention, inputs[0], layout, bias, shape.rope_theta),
    )
    results = [
        [out.detach().double(), *(x.double() for x in torch.autograd.grad(out, inputs, pull.to(out.dtype)))]
        for out in outs
    ]
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (results[0][0][tokens:][documents[1] < 0] == 0).all(), "padding sees nothing"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [16, 40, 203])
def test_rows_are_those_of_float64(dtype: torch.dtype, size: int) -> None:
    calls, norm = open_calls(), RMSNorm(size, 1e-6)
    norm.weight.data = 1 + 0.3 * drawn(size)
    stream, added = drawn(130, size, seed=1).requires_grad_(), drawn(130, size, seed=2).to(dtype).requires_grad_()
    summed, normal, wide = add_and_norm(calls, stream, added, norm, dtype, wide=True)
    inputs, pulls = [stream, added, norm.weight], [drawn(130, size, seed=seed) for seed in (3, 4)]
    total = (summed * pulls[0]).sum() + (wide * pulls[1]).sum() + normal.float().sum()
    found = [summed, wide, *torch.autograd.grad(total, inputs)]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    sum_64 = exact[0] + exact[1]
    normal_64 = exact[2] * sum_64 * (sum_64.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    total = (sum_64 * pulls[0]).sum() + (normal_64 * (pulls[1] + 1)).sum()
    near = {"rtol": 1e-5, "atol": 1e-4} if dtype is torch.float32 else {"rtol": 1e-2, "atol": 1e-2}
    for one, other in zip(found, [sum_64, normal_64, *torch.autograd.grad(total, exact)], strict=True):
        torch.testing.assert_close(one.double(), other, **near)
    torch.testing.assert_close(normal, wide.to(dtype), rtol=0, atol=0)
    gates = drawn(130, 2 * size, seed=5).to(dtype).requires_grad_()
    exact_gates = gates.detach().double().requires_grad_()
    first, second = exact_gates.chunk(2, dim=-1)
    pull = drawn(130, size, seed=6).to(dtype)
    for one, other in (
        (gate(calls, gates), functional.silu(first) * second),
        (
            torch.autograd.grad(gate(calls, gates), gates, pull)[0],
            torch.autograd.grad(functional.silu(first) * second, exact_gates, pull.double())[0],
        ),
    ):
        torch.testing.assert_close(one.double(), other, **near)


@pytest.mark.parametrize("vocabulary", [5, 64, 101])
def test_losses_of_tokens_are_those_of_float64(vocabulary: int) -> None:
    hidden, weight = drawn(90, 24).requires_grad_(), (3 * drawn(vocabulary, 24, seed=1)).requires_grad_()
    targets = torch.randint(0, vocabulary, (90,), generator=torch.Generator().manual_seed(2))
    targets[::7] = -100
    loss = mean_loss(open_calls(), hidden, weight, targets)
    exact = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    expected = functional.cross_entropy(exact[0] @ exact[1].t(), targets)
    found = torch.autograd.grad(0.5 * loss, (hidden, weight))
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(found, torch.autograd.grad(0.5 * expected, exact), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(mean_loss(open_calls(), hidden, weight, targets), loss), "without gradients as well"


def test_what_is_no_number_stays_none(small_config: Make, make_model: Make) -> None:
    """A step has to notice it: hidden by a kernel, it would end in the weights."""
    model, batch = make_model(small_config()), some_batch()
    first, second = model.model.layers[1:3]
    for weight in (first.self_attn.q_proj.weight, second.mlp.experts.down_proj, second.input_layernorm.weight):
        kept = weight.data.clone()
        weight.data[..., 0] = torch.nan
        losses = KernelLosses(open_calls(), model, torch.bfloat16).compute(batch, slice(0, 0))
        assert losses.main.isnan()
        assert gradients(model, losses)["model.embed_tokens.weight"].isnan().any()
        weight.data = kept


def test_routers_read_numbers_that_are_not_rounded(small_config: Make, make_model: Make) -> None:
    model, read = make_model(small_config()), list[Tensor]()
    model.model.layers[1].mlp.gate.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    KernelLosses(open_calls(), model, torch.bfloat16).compute(some_batch(), slice(0, 0))
    assert read[0].dtype is torch.float32
    assert not torch.equal(read[0], read[0].bfloat16().float())


def test_a_target_outside_the_vocabulary_is_refused() -> None:
    for target in (7, 1 << 40):
        with pytest.raises(IndexError, match="vocabulary has 7 tokens"):
            mean_loss(open_calls(), drawn(2, 8), drawn(7, 8), torch.tensor([0, target]))


def test_some_steps_are_those_of_torch() -> None:
    config = PRESETS["tiny"].config
    schedule = Schedule(peak=3e-3, warmup_steps=2, steps=12, decay_share=0.4)
    recipe = Recipe(rows=4, row_tokens=96, mtp_rows=2, schedule=schedule)
    curves = []
    for calls in (open_calls(), None):
        model = MiMo(config)
        for name, parameter in model.named_parameters():
            parameter.data = drawn(*parameter.shape, seed=len(name)) * 0.04 + (1 if "norm" in name else 0)
        optimiser = make_optimiser(model, recipe)
        reports = []
        for step in range(schedule.steps):
            ids = torch.randint(0, 512, (4, 96), generator=torch.Generator().manual_seed(step % 3))
            batch = Batch(ids, (ids < 8).cumsum(1))
            reports.append(train_step(model, optimiser, batch, recipe, step, torch.float32, calls))
        curves.append([[report.loss, *report.mtp_losses, report.gradient_norm] for report in reports])
    assert curves[0][-1][0] < curves[0][0][0] - 0.5
    torch.testing.assert_close(*map(torch.tensor, curves), rtol=2e-3, atol=2e-3)


def test_kernels_are_chosen_where_they_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, small_config: Make) -> None:
    calls = open_calls()
    assert choose_calls("cpu", 1) is not None
    assert choose_calls("cuda", 1) is None
    with pytest.raises(ValueError, match="float32 weights"):
        KernelLosses(calls, MiMo(small_config(), dtype=torch.bfloat16), torch.bfloat16)
    monkeypatch.setattr(libraries, "_FOLDER", tmp_path)
    open_library.cache_clear()
    assert choose_calls("cpu", 1) is None
    open_library.cache_clear()
