"""Any number of key-value heads, in windows and beside them: the same as a model that repeats them for its queries.

transformers knows window layers with twice the key-value heads of global ones only; repeated heads make every model one
of those.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from envfarm.model.engine.engine import Engine
from envfarm.model.engine.limits import EngineLimits
from envfarm.model.engine.request import Request, Sampling
from envfarm.model.mimo import MiMo

Make = Callable[..., Any]
COUNTS = {
    "two in windows": (8, 1, 2),
    "as many in windows": (8, 2, 2),
    "fewer in windows": (8, 4, 2),
    "one in windows": (8, 2, 1),
    "as the bundled model": (6, 1, 3),
}


@pytest.fixture(params=COUNTS)
def model(request: pytest.FixtureRequest, small_config: Make, make_model: Make) -> MiMo:
    heads, of_global, of_window = COUNTS[request.param]
    config = small_config(
        num_attention_heads=heads,
        swa_num_attention_heads=heads,
        num_key_value_heads=of_global,
        swa_num_key_value_heads=of_window,
    )
    made: MiMo = make_model(config)
    return made


def repeat_heads(model: MiMo) -> MiMo:
    """Return a model with half as many key-value heads as queries in global layers, and as many in windows."""
    config = model.config
    heads = config.num_attention_heads
    wide = MiMo(replace(config, num_key_value_heads=heads // 2, swa_num_key_value_heads=heads)).eval()
    known = model.state_dict()
    for name, target in wide.state_dict().items():
        source = known[name]
        if source.shape != target.shape:
            size = config.v_head_dim if "v_proj" in name else config.head_dim
            by_head = source.view(-1, size, source.shape[-1])
            source = by_head.repeat_interleave(len(target) // len(source), 0).flatten(0, 1)
        target.copy_(source)
    return wide


@torch.no_grad()
def test_logits_are_those_of_transformers_with_repeated_heads(model: MiMo, make_twin: Make) -> None:
    twin = make_twin(repeat_heads(model))
    ids = torch.randint(1, 97, (3, 41), generator=torch.Generator().manual_seed(5))
    theirs = twin(ids).logits
    assert theirs.std() > 0.1
    torch.testing.assert_close(model.lm_head(model(ids).hidden_B_T_D), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("draft_tokens", [0, 3])
@torch.no_grad()
def test_the_engine_generates_what_the_repeated_heads_generate(model: MiMo, draft_tokens: int) -> None:
    wide = repeat_heads(model)
    engine = Engine(model, EngineLimits(draft_tokens=draft_tokens, chunk_tokens=16), lambda _: b"x")
    prompts = [tuple(range(size, 2 * size)) for size in (3, 30, 45)]
    for prompt in prompts:
        engine.submit(Request(prompt=prompt, most_tokens=12, sampling=Sampling(temperature=0)))
    found: dict[int, list[int]] = {}
    while engine.has_work:
        for progress in engine.step():
            found.setdefault(progress.request_id, []).extend(token.token for token in progress.tokens)
    for prompt, answer in zip(prompts, (found[number] for number in sorted(found)), strict=True):
        logits = wide.lm_head(wide(torch.tensor([[*prompt, *answer]])).hidden_B_T_D[0])
        assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == answer
