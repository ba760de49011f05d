"""What a training step is made of: packing, losses within documents, balance of experts, groups of the optimiser."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from envfarm.errors import SettingsError
from envfarm.model.sink_attention import flash_attention
from envfarm.training.expert_balance import expert_loads, move_biases
from envfarm.training.held_out import document_bits
from envfarm.training.losses import compute_losses, targets_ahead
from envfarm.training.optimiser import count_zero_gradients, make_optimiser
from envfarm.training.packing import Batch, PackedRows
from envfarm.training.presets import PRESETS, Recipe
from envfarm.training.schedule import Schedule
from envfarm.training.token_store import TokenStore
from envfarm.training.train_step import train_step

Make = Callable[..., Any]
LENGTHS = (7, 1, 40, 13, 22, 5, 30, 60, 3, 19)


@pytest.fixture
def store() -> TokenStore:
    starts = np.cumsum([0, *LENGTHS])
    return TokenStore(np.arange(starts[-1], dtype=np.uint16), starts.astype(np.int64), text_bytes=0)


def recipe(**changes: Any) -> Recipe:
    schedule = Schedule(peak=1e-2, warmup_steps=1, steps=10, decay_share=0.5)
    return Recipe(**{"rows": 4, "row_tokens": 12, "mtp_rows": 2, "schedule": schedule, **changes})


def test_an_epoch_has_every_token_once_in_another_order_each_time(store: TokenStore) -> None:
    rows = PackedRows(store, rows=3, row_tokens=8, seed=0)
    epoch_rows = 200 // 8 - 1
    seen = torch.cat([rows.batch(step).tokens_B_T for step in range(2 * epoch_rows // 3)])
    epochs = seen[:epoch_rows], seen[epoch_rows : 2 * epoch_rows]
    for epoch in epochs:
        assert len(set(epoch.flatten().tolist())) == epoch_rows * 8
    assert not torch.equal(*epochs)


def test_the_rows_of_a_step_do_not_depend_on_what_was_asked_before(store: TokenStore) -> None:
    rows = PackedRows(store, rows=3, row_tokens=8, seed=0)
    in_turn = [rows.batch(step) for step in range(20)]
    for step in (17, 2, 9):
        alone = PackedRows(store, rows=3, row_tokens=8, seed=0).batch(step)
        assert torch.equal(alone.tokens_B_T, in_turn[step].tokens_B_T)
        assert torch.equal(rows.batch(step).tokens_B_T, in_turn[step].tokens_B_T), "asked again, and later"
        assert torch.equal(alone.documents_B_T, in_turn[step].documents_B_T)
    assert not torch.equal(PackedRows(store, rows=3, row_tokens=8, seed=1).batch(2).tokens_B_T, in_turn[2].tokens_B_T)


def test_every_token_knows_its_document(store: TokenStore) -> None:
    batch = PackedRows(store, rows=4, row_tokens=16, seed=3).batch(1)
    expected = np.repeat(np.arange(len(LENGTHS)), LENGTHS)[batch.tokens_B_T.numpy()]
    assert np.array_equal(batch.documents_B_T.numpy(), expected)


def test_a_corpus_that_fills_no_row_is_refused(store: TokenStore) -> None:
    with pytest.raises(SettingsError, match="the corpus has 200 tokens: at least 400 are needed"):
        PackedRows(store, rows=1, row_tokens=200, seed=0)


def test_targets_end_with_their_document() -> None:
    batch = Batch(torch.tensor([[1, 2, 3, 4, 5, 6]]), torch.tensor([[0, 0, 0, 0, 1, 1]]))
    assert targets_ahead(batch, 1).tolist() == [[2, 3, 4, -100, 6]]
    assert targets_ahead(batch, 3).tolist() == [[4, -100, -100]]


def test_losses_of_packed_documents_are_those_of_each_alone(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    lengths, ids = (17, 9, 14), torch.randint(0, 97, (40,), generator=torch.Generator().manual_seed(4))
    documents = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    packed = compute_losses(model, Batch(ids[None], documents[None]), slice(0, 1))
    nats, counts = torch.zeros(4), torch.zeros(4)
    for part in ids.split(list(lengths)):
        alone = compute_losses(model, Batch(part[None], torch.zeros(1, len(part), dtype=torch.int64)), slice(0, 1))
        for place, loss in enumerate((alone.main, *alone.mtp)):
            count = len(part) - 1 - place
            nats[place] += loss.detach() * count
            counts[place] += count
    found = torch.stack((packed.main, *packed.mtp)).detach()
    torch.testing.assert_close(found, nats / counts, atol=1e-5, rtol=1e-5)


def test_mtp_losses_are_of_the_tokens_that_blocks_predict(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    ids = torch.randint(0, 97, (2, 20), generator=torch.Generator().manual_seed(4))
    losses = compute_losses(model, Batch(ids, torch.zeros_like(ids)), slice(1, 2))
    hidden = model(ids).hidden_B_T_D
    for block, further in enumerate(model.predict_all_further(ids, hidden)):
        logits = model.lm_head(further)[1, : 20 - 2 - block]
        torch.testing.assert_close(losses.mtp[block], functional.cross_entropy(logits, ids[1, 2 + block :]))
    assert compute_losses(model, Batch(ids, torch.zeros_like(ids)), slice(0, 0)).mtp == ()


def test_biases_bring_work_to_idle_experts(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    ids = torch.randint(0, 97, (8, 64), generator=torch.Generator().manual_seed(4))
    before = expert_loads(model(ids).routings)
    assert all(load.sum().item() == pytest.approx(8) for load in before)
    for _ in range(150):
        move_biases(model, expert_loads(model(ids).routings), 0.01)
    after = expert_loads(model(ids).routings)
    for early, late in zip(before, after, strict=True):
        assert late.max() < 0.6 * early.max()
        assert late.max() < 1.4


def test_matrices_decay_and_vectors_do_not(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    matrices, vectors = make_optimiser(model, recipe()).param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    assert (matrices["betas"], matrices["eps"]) == ((0.9, 0.95), 1e-8)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    plain = {names[id(parameter)] for parameter in vectors["params"]}
    assert plain == {name for name in names.values() if "norm" in name or name.endswith("attention_sink_bias")}
    assert len(matrices["params"]) + len(vectors["params"]) == len(names)


def test_experts_that_nobody_chose_count_as_zero_gradients(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    ids = torch.randint(0, 97, (4, 12), generator=torch.Generator().manual_seed(4))
    batch = Batch(ids, torch.zeros_like(ids))
    for layer in range(1, 5):
        bias = model.model.layers[layer].mlp.gate.e_score_correction_bias
        bias.copy_(torch.tensor([9.0, 9, 9, 0, 0, 0, 0, 0]))
    compute_losses(model, batch, slice(0, 4)).main.backward()
    idle = 4 * 5 * (3 * 28 * 40)
    mtp = sum(parameter.numel() for name, parameter in model.named_parameters() if ".mtp." in name)
    assert idle + mtp <= count_zero_gradients(model) < idle + mtp + 97 * 40 + 50


def test_a_step_lowers_the_loss_of_its_own_rows(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    model.train()
    ids = torch.randint(0, 97, (4, 12), generator=torch.Generator().manual_seed(4))
    batch = Batch(ids, torch.zeros_like(ids))
    optimiser = make_optimiser(model, recipe())
    reports = [train_step(model, optimiser, batch, recipe(), step, torch.float32) for step in range(8)]
    assert reports[-1].loss < reports[0].loss - 1
    assert [report.learning_rate for report in reports[:2]] == [1e-2, 1e-2]
    assert len(reports[0].loads) == 4


def test_rows_take_turns_in_training_the_blocks() -> None:
    preset = PRESETS["bundled"].recipe
    firsts = [step * preset.mtp_rows % preset.rows for step in range(preset.rows // preset.mtp_rows)]
    assert sorted(firsts) == list(range(0, preset.rows, preset.mtp_rows))
    assert preset.rows % preset.mtp_rows == 0


@pytest.mark.parametrize("tokens", [0, 1, 2, 15, 16, 17, 100])
def test_every_token_of_a_held_out_file_is_paid_once(small_config: Make, make_model: Make, tokens: int) -> None:
    model = make_model(small_config())
    with torch.no_grad():
        model.lm_head.weight.zero_()
    ids = torch.randint(0, 97, (tokens,), generator=torch.Generator().manual_seed(4)).tolist()
    assert document_bits(model, ids, row_tokens=16) == pytest.approx(tokens * math.log2(97), rel=1e-5)


def test_a_held_out_file_is_paid_as_the_model_sees_it(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    ids = torch.randint(0, 97, (14,), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        logits = model.lm_head(model(ids[None, :-1]).hidden_B_T_D[0])
    nats = functional.cross_entropy(logits, ids[1:], reduction="sum").item() + math.log(97)
    assert document_bits(model, ids.tolist(), row_tokens=16) == pytest.approx(nats / math.log(2), rel=1e-5)


def test_attention_of_bfloat16_has_the_gradients_of_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 4, 20, 8), (2, 2, 20, 8), (2, 2, 20, 8)
    narrow = [torch.randn(shape, generator=generator).bfloat16() for shape in shapes]
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        inputs = [tensor.detach().clone().to(dtype).requires_grad_() for tensor in narrow]
        out = flash_attention(*inputs, torch.zeros(4), None, 0.3)
        assert out.dtype is dtype
        torch.autograd.backward(out.float().square().sum())
        found.append([tensor.grad.float() for tensor in inputs if tensor.grad is not None])
    for narrow_gradient, wide_gradient in zip(*found, strict=True):
        torch.testing.assert_close(narrow_gradient, wide_gradient, atol=0.05, rtol=0.05)


def test_the_miniature_corpus_is_our_own_text() -> None:
    folder = Path(__file__).parents[1] / "data" / "miniature_corpus"
    assert 100_000 < sum(path.stat().st_size for path in folder.glob("*.jsonl")) < 300_000
