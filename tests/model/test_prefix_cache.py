"""A later turn computes what is new only, and gets what it would get from nothing; conversations share nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from envfarm.model.engine.engine import Engine
from envfarm.model.engine.limits import EngineLimits
from envfarm.model.engine.request import Progress, Request, Routing, Sampling

Make = Callable[..., Any]


def draw(length: int, seed: int) -> tuple[int, ...]:
    return tuple(torch.randint(0, 97, (length,), generator=torch.Generator().manual_seed(seed)).tolist())


def answer(engine: Engine, request: Request) -> Progress:
    """Run one request to its end; return one progress with everything in it."""
    number = engine.submit(request)
    found = []
    while engine.has_work:
        found += [progress for progress in engine.step() if progress.request_id == number]
    last = found[-1]
    tokens = tuple(token for progress in found for token in progress.tokens)
    return Progress(request_id=number, tokens=tokens, finish=last.finish, usage=last.usage, routing=last.routing)


def tokens_of(progress: Progress) -> tuple[int, ...]:
    return tuple(token.token for token in progress.tokens)


def experts(routing: Routing | None) -> torch.Tensor:
    assert routing is not None
    return torch.frombuffer(bytearray(routing.experts), dtype=torch.uint8).view(routing.shape)


@pytest.mark.parametrize("routing_wanted", [False, True])
def test_ten_turns_prefill_only_what_is_new(small_config: Make, make_model: Make, *, routing_wanted: bool) -> None:
    model = make_model(small_config())
    engine = Engine(model, EngineLimits(chunk_tokens=16), lambda _: b"x")
    prompt, cached, new_tokens = (), 0, 0
    for turn in range(10):
        added = draw(5 + 7 * turn, turn)
        prompt += added
        options = {"most_tokens": 9, "sampling": Sampling(seed=turn), "routing_wanted": routing_wanted}
        found = answer(engine, Request(prompt=prompt, conversation="one", **options))
        fresh = answer(Engine(model, EngineLimits(), lambda _: b"x"), Request(prompt=prompt, **options))
        assert tokens_of(found) == tokens_of(fresh)
        assert found.usage is not None
        assert (found.usage.reused_tokens, found.usage.prefilled_tokens) == (cached, len(prompt) - cached)
        if routing_wanted:
            assert torch.equal(experts(found.routing), experts(fresh.routing))
        new_tokens += len(prompt) - cached
        prompt += tokens_of(found)
        cached = len(prompt) - 1  # the last token was drawn, and has not been through the model
    assert engine.counts.prefilled_tokens == new_tokens
    assert engine.kept_conversations == 1
    engine.forget("one")
    assert (engine.memory.pool.used_blocks, engine.kept_conversations) == (0, 0)


def test_nothing_is_shared_between_conversations(small_config: Make, make_model: Make) -> None:
    engine = Engine(make_model(small_config()), EngineLimits(), lambda _: b"x")
    request = {"prompt": draw(90, 0), "most_tokens": 4}
    for conversation in ("one", "two", None, "one"):
        usage = answer(engine, Request(conversation=conversation, **request)).usage
        assert usage is not None
    # The same prompt again is no later turn: what was generated since is too much to take back.
    assert engine.counts.reused_tokens == 0
    assert engine.counts.prefilled_tokens == 4 * 90


def test_another_history_is_computed_from_nothing(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    engine = Engine(model, EngineLimits(), lambda _: b"x")
    answer(engine, Request(prompt=draw(90, 0), most_tokens=4, conversation="one"))
    changed = (*draw(80, 0), *draw(30, 1))
    found = answer(engine, Request(prompt=changed, most_tokens=9, conversation="one"))
    fresh = answer(Engine(model, EngineLimits(), lambda _: b"x"), Request(prompt=changed, most_tokens=9))
    assert tokens_of(found) == tokens_of(fresh)
    assert found.usage is not None
    assert found.usage.reused_tokens == 0


def test_a_turn_without_routing_is_not_continued_by_one_that_wants_it(small_config: Make, make_model: Make) -> None:
    engine = Engine(make_model(small_config()), EngineLimits(), lambda _: b"x")
    first = answer(engine, Request(prompt=draw(20, 0), most_tokens=4, conversation="one"))
    prompt = (*draw(20, 0), *tokens_of(first), 7)
    found = answer(engine, Request(prompt=prompt, most_tokens=4, conversation="one", routing_wanted=True))
    assert found.usage is not None
    assert found.usage.reused_tokens == 0
    assert experts(found.routing).shape[0] == len(prompt) + 3


def test_the_conversation_that_was_not_used_for_the_longest_time_goes_first(
    small_config: Make, make_model: Make
) -> None:
    engine = Engine(make_model(small_config()), EngineLimits(kept_conversations=2), lambda _: b"x")
    histories = {}
    for name in ("one", "two", "three"):
        prompt = draw(20, len(name))
        found = answer(engine, Request(prompt=prompt, most_tokens=4, conversation=name))
        histories[name] = (*prompt, *tokens_of(found), 1)
    reused = []
    for name in ("two", "one"):
        usage = answer(engine, Request(prompt=histories[name], most_tokens=1, conversation=name)).usage
        assert usage is not None
        reused.append(usage.reused_tokens)
    assert reused == [23, 0]


def test_kept_conversations_give_way_when_memory_is_short(small_config: Make, make_model: Make) -> None:
    engine = Engine(make_model(small_config()), EngineLimits(capacity_tokens=256), lambda _: b"x")
    for name in ("one", "two"):
        answer(engine, Request(prompt=draw(100, 1), most_tokens=4, conversation=name))
    assert (engine.kept_conversations, engine.memory.pool.used_blocks) == (2, 4)
    answer(engine, Request(prompt=draw(100, 1), most_tokens=100))
    assert engine.kept_conversations == 0
    assert engine.counts.preemptions == 0


@pytest.mark.parametrize("draft_tokens", [0, 3])
@pytest.mark.parametrize("taken_back", [0, 1, 2, 4, 5, 9])
def test_a_turn_that_takes_back_the_last_tokens_is_answered_right(
    small_config: Make, make_model: Make, draft_tokens: int, taken_back: int
) -> None:
    """Whether rings still hold what is needed, or the prompt is computed from nothing."""
    model = make_model(small_config(vocab_size=7))
    limits = EngineLimits(draft_tokens=draft_tokens)
    reused = []
    for seed in range(6):
        engine = Engine(model, limits, lambda _: b"x")
        prompt = tuple(token % 7 for token in draw(40, seed))
        options = {"most_tokens": 12, "sampling": Sampling(temperature=0)}
        first = answer(engine, Request(prompt=prompt, conversation="one", **options))
        known = (*prompt, *tokens_of(first)[:-1])
        changed = (*known[: len(known) - taken_back], (known[-taken_back] + 1) % 7, 2, 3)
        found = answer(engine, Request(prompt=changed, conversation="one", **options))
        fresh = answer(Engine(model, limits, lambda _: b"x"), Request(prompt=changed, **options))
        assert tokens_of(found) == tokens_of(fresh)
        assert found.usage is not None
        assert found.usage.reused_tokens in {0, len(known) - taken_back, len(known) - taken_back + 1}
        reused.append(found.usage.reused_tokens)
    assert all(reused) == (taken_back <= 1 + draft_tokens)
    assert any(reused) == all(reused)
