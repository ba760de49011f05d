"""Caches: decoding with them gives what one pass gives, rejected tokens leave no trace, bytes equal the formula."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
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


@pytest.mark.parametrize("draft_slots", [0, 3])
def test_bytes_equal_the_formula(small_config: Make, draft_slots: int) -> None:
    config: MiMoConfig = small_config(sliding_window=128)
    cache = KeyValueCache(config, 1, draft_slots=draft_slots, dtype=torch.bfloat16)
    for tokens in (GROWTH_TOKENS, 4_096, 32_768, 131_072):
        layout = Layout(torch.arange(tokens - 5, tokens)[None])
        for kind in LayerKind:
            cache.main[kind].begin(layout)
        expected = key_value_bytes(config, tokens, draft_slots=draft_slots)
        assert cache.key_value_bytes == expected.hybrid
        assert expected.all_global / cache.key_value_bytes == pytest.approx(expected.ratio)


def test_growing_keeps_what_was_there(small_config: Make) -> None:
    config: MiMoConfig = small_config()
    cache = KeyValueCache(config, 1).main[LayerKind.GLOBAL]
    keys, values = torch.randn(1, 10, 2, 24), torch.randn(1, 10, 2, 16)
    cache.begin(Layout.plain(1, 10)).store(1, keys, values)
    seen = cache.begin(Layout.following(torch.tensor([10]), 3 * GROWTH_TOKENS))
    new = torch.randn(1, 3 * GROWTH_TOKENS, 2, 24), torch.randn(1, 3 * GROWTH_TOKENS, 2, 16)
    for found, old, added in zip(seen.store(1, *new), (keys, values), new, strict=True):
        assert torch.equal(found, torch.cat((old, added), dim=1).transpose(1, 2))


def test_a_context_of_256_k_is_bounded(tmp_path: Path) -> None:
    """A chunk and single tokens at the end of a full context: memory grows by the cache and a little."""
    program = """
import resource, sys, torch
from pathlib import Path
from envfarm.model.config import LayerKind, MiMoConfig
from envfarm.model.key_value_cache import KeyValueCache
from envfarm.model.kv_bytes import key_value_bytes
from envfarm.model.layout import Layout
from envfarm.model.mimo import MiMo, initialise
torch.set_num_threads(1)
config = MiMoConfig(
    vocab_size=64, hidden_size=16, intermediate_size=16, moe_intermediate_size=8, num_attention_heads=2,
    num_key_value_heads=1, head_dim=12, v_head_dim=8, swa_num_attention_heads=2, swa_num_key_value_heads=2,
    swa_head_dim=12, swa_v_head_dim=8, hybrid_layer_pattern=(0, 1, 1), moe_layer_freq=(0, 1, 1),
    n_routed_experts=4, num_experts_per_tok=2,
)
model = MiMo(config)
initialise(model, 0)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with torch.no_grad():
    model(torch.zeros(1, 300, dtype=torch.int64))
    before, length = peak(), 262_144 - 516
    cache = KeyValueCache(config, 1)
    for kind in LayerKind:
        shape = config.attention(kind)
        step = cache.main[kind].begin(Layout.plain(1, length))
        for layer in range(config.count_layers(kind)):
            sizes = shape.head_dim, shape.v_head_dim
            step.store(layer, *(torch.randn(1, length, shape.kv_heads, size) for size in sizes))
    for tokens in (512, 1, 1, 1, 1):
        layout = Layout.following(torch.tensor([length]), tokens)
        hidden = model(torch.ones(1, tokens, dtype=torch.int64), layout, cache).hidden_B_T_D
        length += tokens
assert bool(hidden.isfinite().all())
print(length, cache.key_value_bytes, key_value_bytes(config, length, number_bytes=4).hybrid, peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    length, live, formula, grown = map(int, done.stdout.split())
    assert (length, live) == (262_144, formula)
    # Without slabs the chunk's mask alone would have 512 MB.
    assert grown < live + 250_000_000


@torch.no_grad()
def test_slabs_of_queries_give_what_one_mask_gives(
    small_config: Make, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(small_config())
    ids = draw_tokens(2, 40)
    lengths = torch.tensor([17, 17])
    found = []
    for most in (1 << 24, 300):
        monkeypatch.setattr("envfarm.model.attention_pass._MOST_BIASES", most)
        cache = KeyValueCache(model.config, 2)
        model(ids[:, :17], Layout.plain(2, 17), cache)
        found.append(model(ids[:, 17:], Layout.following(lengths, 23), cache).hidden_B_T_D)
        found.append(model(ids, Layout.packed(torch.arange(40)[None].expand(2, 40) // 15)).hidden_B_T_D)
    torch.testing.assert_close(found[0], found[2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], found[3], atol=1e-5, rtol=1e-5)


def test_documents_are_refused(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    with pytest.raises(ValueError, match="one document"):
        model(draw_tokens(1, 4), Layout.packed(torch.tensor([[0, 0, 1, 1]])), KeyValueCache(model.config, 1))
