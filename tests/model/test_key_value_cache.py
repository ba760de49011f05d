"""Caches: decoding with them gives what one pass gives, rejected tokens leave no trace, bytes equal the formula."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from envfarm.model.config import LayerKind, MiMoConfig
from envfarm.model.key_value_cache import GROWTH_TOKENS, KeyValueCache
from envfarm.model.kv_bytes import key_value_bytes
from envfarm.model.layout import Layout
from envfarm.model.mimo import MiMo

Make = Callable[..., Any]


def draw_tokens(rows: int, tokens: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 97, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def decode(model: MiMo, ids: torch.Tensor, start: int, stop: int, cache: KeyValueCache) -> torch.Tensor:
    layout = Layout.following(torch.full((ids.shape[0],), start), stop - start)
    return model(ids[:, start:stop], layout, cache).hidden_B_T_D


@pytest.mark.parametrize("reach", [0, 1, 5])
@pytest.mark.parametrize("draft_slots", [0, 3])
@torch.no_grad()
def test_chunks_of_any_size_give_what_one_pass_gives(
    small_config: Make, make_model: Make, reach: int, draft_slots: int
) -> None:
    model = make_model(small_config(sliding_window=reach + 1, sliding_window_includes_self=True))
    ids = draw_tokens(2, 40)
    whole = model(ids).hidden_B_T_D
    cache = KeyValueCache(model.config, 2, draft_slots=draft_slots)
    start, chunks = 0, []
    for size in (3, 1, 1, 9, 4, 2, 1, 12, 1, 6):
        chunks.append(decode(model, ids, start, start + size, cache))
        start += size
    torch.testing.assert_close(torch.cat(chunks, dim=1), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rows_of_different_lengths_go_on_together(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    ids = draw_tokens(2, 30)
    lengths = torch.tensor([19, 8])
    real = torch.arange(19) < lengths[:, None]
    cache = KeyValueCache(model.config, 2)
    model(ids[:, :19], Layout.padded(real), cache)
    for step in range(9):
        together = torch.stack([ids[row, length + step] for row, length in enumerate(lengths)])[:, None]
        hidden = model(together, Layout.following(lengths + step, 1), cache).hidden_B_T_D
        for row, length in enumerate(lengths.tolist()):
            alone = model(ids[row : row + 1, : length + step + 1]).hidden_B_T_D[:, -1]
            torch.testing.assert_close(hidden[row], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rejected_tokens_leave_no_trace(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    ids, drafts = draw_tokens(2, 40), draw_tokens(2, 40, seed=9)
    plain, tried = KeyValueCache(model.config, 2), KeyValueCache(model.config, 2, draft_slots=3)
    for cache in (plain, tried):
        decode(model, ids, 0, 21, cache)
    for length in range(21, 36):
        decode(model, torch.cat((ids[:, : length + 1], drafts[:, :3]), dim=1), length, length + 4, tried)
        tried.forget_from(torch.full((2,), length))
        expected, found = (decode(model, ids, length, length + 1, cache) for cache in (plain, tried))
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    for kind in LayerKind:
        held = tried.main[kind].positions_B_S
        assert held.amax(1).tolist() == [35, 35], kind


@torch.no_grad()
def test_rejected_tokens_show_when_they_are_not_forgotten(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    ids = draw_tokens(1, 30)
    caches = [KeyValueCache(model.config, 1, draft_slots=3) for _ in range(2)]
    for cache in caches:
        decode(model, ids, 0, 20, cache)
        decode(model, ids, 20, 24, cache)
    caches[0].forget_from(torch.tensor([21]))
    first, second = (decode(model, ids[:, :25], 24, 25, cache) for cache in caches)
    assert (first - second).abs().max() > 1e-3


@torch.no_grad()
def test_bytes_equal_the_formula(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    cache = KeyValueCache(model.config, 1, dtype=torch.bfloat16)
    assert (
        cache.key_value_bytes
        == key_value_bytes(model.config, 7).hybrid
        - key_value_bytes(
            MiMoConfig(**{**vars(model.config), "hybrid_layer_pattern": (0, 0), "moe_layer_freq": (0, 0)}), 7
        ).hybrid
    )
    for tokens in (GROWTH_TOKENS, 4 * GROWTH_TOKENS, 16 * GROWTH_TOKENS):
        cache.main[LayerKind.GLOBAL].reserve(tokens)
        assert cache.key_value_bytes == key_value_bytes(model.config, tokens).hybrid


def test_documents_are_refused(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    with pytest.raises(ValueError, match="one document"):
        model(draw_tokens(1, 4), Layout.packed(torch.tensor([[0, 0, 1, 1]])), KeyValueCache(model.config, 1))
