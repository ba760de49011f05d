"""Guessing ahead changes nothing but the number of steps: answers, distributions, memory and routing stay."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from envfarm.model.engine import verification
from envfarm.model.engine.engine import Engine
from envfarm.model.engine.limits import EngineLimits
from envfarm.model.engine.request import Progress, Request, Sampling
from envfarm.model.engine.row_memory import RowMemory
from envfarm.model.engine.sampling import token_probabilities
from envfarm.model.layout import Layout
from envfarm.model.mimo import MiMo

Make = Callable[..., Any]
GREEDY = Sampling(temperature=0)
TIE = 1e-5
"""Below this difference of logprobs rounding may decide which token is the likeliest."""


def draw_prompt(length: int, seed: int, vocabulary: int) -> tuple[int, ...]:
    return tuple(torch.randint(0, vocabulary, (length,), generator=torch.Generator().manual_seed(seed)).tolist())


def make_engine(model: MiMo, draft_tokens: int, **limits: Any) -> Engine:
    return Engine(model, EngineLimits(**{"draft_tokens": draft_tokens, "running": 64, **limits}), lambda _: b"x")


def run(engine: Engine, requests: Sequence[Request]) -> list[list[Progress]]:
    """Return each request's progress."""
    found: dict[int, list[Progress]] = {engine.submit(request): [] for request in requests}
    while engine.has_work:
        for progress in engine.step():
            found[progress.request_id].append(progress)
    return list(found.values())


def tokens_of(progress: Sequence[Progress]) -> list[int]:
    return [token.token for one in progress for token in one.tokens]


@pytest.fixture
def chatty(small_config: Make, make_model: Make) -> MiMo:
    """A model with so few tokens that many guesses are right by chance."""
    model: MiMo = make_model(small_config(vocab_size=7))
    return model


def test_greedy_answers_of_a_thousand_prompts_are_the_same(chatty: MiMo) -> None:
    requests = [
        Request(prompt=draw_prompt(1 + place % 23, place, 7), most_tokens=9, sampling=GREEDY, top_logprobs=2)
        for place in range(1000)
    ]
    plain, guessing = make_engine(chatty, 0, running=250), make_engine(chatty, 3, running=250)
    ties = 0
    for one, other in zip(run(plain, requests), run(guessing, requests), strict=True):
        expected = [token for progress in one for token in progress.tokens]
        found = [token for progress in other for token in progress.tokens]
        assert len(found) == len(expected) == 9
        for wanted, got in zip(expected, found, strict=True):
            if wanted.token != got.token:
                assert wanted.top[0][1] - wanted.top[1][1] < TIE
                ties += 1
                break
            assert got.logprob == pytest.approx(wanted.logprob, abs=1e-4)
    assert ties <= 2
    counts = guessing.counts
    assert counts.generated_tokens == plain.counts.generated_tokens == 9000
    assert counts.accepted_tokens > 500
    assert counts.steps < plain.counts.steps


def test_guesses_that_are_all_right_make_four_tokens_in_a_step(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    model.lm_head.weight.data.zero_()  # token 0 is always the likeliest, for the blocks too
    engine = make_engine(model, 3)
    (progress,) = run(engine, [Request(prompt=(5, 6, 7), most_tokens=41, sampling=GREEDY)])
    assert tokens_of(progress) == [0] * 41
    assert engine.counts.steps == 1 + 10
    assert (engine.counts.drafted_tokens, engine.counts.accepted_tokens) == (30, 30)


def reference_guesses(model: MiMo, ids: list[int], count: int) -> list[int]:
    """Guess by passes of each block over the whole row, without a cache."""
    row = torch.tensor([ids])
    hidden = model(row).hidden_B_T_D[:, :-1]
    guesses: list[int] = []
    for block in range(count):
        following = torch.tensor([[*ids, *guesses][1 + block :]])
        further = model.predict_further(block, following, hidden, Layout.plain(1, len(ids) - 1))
        guesses.append(int(model.lm_head(further[:, -1]).argmax()))
    return guesses


@pytest.mark.parametrize("chunk", [5, 512])
@torch.no_grad()
def test_guesses_are_those_of_the_blocks_over_whole_rows(chatty: MiMo, chunk: int) -> None:
    engine = make_engine(chatty, 3, chunk_tokens=chunk)
    prompts = [draw_prompt(size, size, 7) for size in (1, 2, 3, 9, 40)]
    for prompt in prompts:
        engine.submit(Request(prompt=prompt, most_tokens=30, sampling=GREEDY))
    compared = 0
    while engine.has_work:
        engine.step()
        for generation in engine._seating.running:
            if generation.drafts:
                expected = reference_guesses(chatty, generation.tokens, len(generation.drafts))
                assert generation.drafts == expected
                compared += 1
    assert compared > 60


@torch.no_grad()
def test_rejected_guesses_leave_no_trace(chatty: MiMo, monkeypatch: pytest.MonkeyPatch) -> None:
    _compare_memory(chatty)
    monkeypatch.setattr(RowMemory, "roll_back", lambda *_: None)
    with pytest.raises(AssertionError):
        _compare_memory(chatty)


def _compare_memory(model: MiMo) -> None:
    """Whenever both engines know equally many tokens of a request, they hold the same of it, and nothing else."""
    engines = make_engine(model, 0), make_engine(model, 3)
    seen: list[dict[int, list[torch.Tensor]]] = [{}, {}]
    for engine, found in zip(engines, seen, strict=True):
        engine.submit(Request(prompt=draw_prompt(60, 3, 7), most_tokens=40, sampling=GREEDY))
        while engine.has_work:
            engine.step()
            for generation in engine._seating.running:
                seat = generation.seat
                assert seat is not None
                assert len(seat.blocks) == -(-seat.tokens // 64)
                found[seat.tokens] = _visible(engine, seat)
    both = seen[0].keys() & seen[1].keys()
    assert len(both) > 10
    assert len(seen[1]) < len(seen[0])
    for length in both:
        for one, other in zip(seen[0][length], seen[1][length], strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def _visible(engine: Engine, seat: Any) -> list[torch.Tensor]:
    """Return what a next token would see, in the order of positions: positions, keys and values of every layer."""
    memory = engine.memory
    positions = memory.window.positions_B_S[seat.row, : memory.window.slots]
    reach = memory.window.shape.reach_tokens or 0
    order = [int((positions == place).nonzero()) for place in range(max(seat.tokens - reach, 0), seat.tokens)]
    assert int(positions.max()) == seat.tokens - 1
    parts = [part[seat.row, :, order] for layer in range(3) for part in memory.window.parts(layer)]
    pooled = [part for layer in range(2) for part in memory.pool.parts(layer)]
    return parts + [part[:, seat.blocks].flatten(1, 2)[:, : seat.tokens] for part in pooled]


def surprise(counted: Counter[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> float:
    """Return how many standard deviations the chi-square statistic lies above its mean (Wilson and Hilferty)."""
    pooled_count = pooled = 0.0
    total, cells = 0.0, 0
    for cell, wanted in expected.items():
        if wanted < 8:
            pooled_count, pooled = pooled_count + counted[cell], pooled + wanted
        else:
            total += (counted[cell] - wanted) ** 2 / wanted
            cells += 1
    if pooled:
        total += (pooled_count - pooled) ** 2 / pooled
        cells += 1
    freedom = cells - 1
    spread = math.sqrt(2 / (9 * freedom))
    return float(((total / freedom) ** (1 / 3) - 1 + spread**2) / spread)


DRAWS = 6_000
SAMPLINGS = {
    "as it is": Sampling(),
    "sharper": Sampling(temperature=0.6),
    "cut": Sampling(temperature=1.3, top_p=0.8, top_k=3),
}


@torch.no_grad()
def expected_counts(model: MiMo, prompt: tuple[int, ...], sampling: Sampling) -> dict[tuple[int, ...], float]:
    """Return how often each answer of four tokens has to come, by passes over whole rows."""
    answers = list(itertools.product(range(4), repeat=4))
    rows = torch.tensor([[*prompt, *answer] for answer in answers])
    logits = model.lm_head(model(rows).hidden_B_T_D[:, len(prompt) - 1 : -1])
    chances = token_probabilities(logits.flatten(0, 1), [sampling] * (4 * len(answers))).view(len(answers), 4, -1)
    own = chances.gather(2, torch.tensor(answers)[..., None])[..., 0].prod(1)
    assert float(own.sum()) == pytest.approx(1, abs=1e-6)
    return {answer: DRAWS * chance for answer, chance in zip(answers, own.tolist(), strict=True)}


def count_answers(model: MiMo, prompt: tuple[int, ...], sampling: Sampling) -> tuple[Counter[tuple[int, ...]], float]:
    """Return how often each answer came, and the share of guesses that were accepted."""
    engine = make_engine(model, 3, running=400)
    requests = [
        Request(
            prompt=prompt,
            most_tokens=4,
            sampling=Sampling(temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k, seed=seed),
        )
        for seed in range(DRAWS)
    ]
    counted = Counter(tuple(tokens_of(progress)) for progress in run(engine, requests))
    return counted, engine.counts.accepted_tokens / engine.counts.drafted_tokens


@pytest.mark.parametrize("kind", SAMPLINGS)
def test_drawn_answers_have_the_models_distribution(small_config: Make, make_model: Make, kind: str) -> None:
    model, prompt = make_model(small_config(vocab_size=4)), (1, 2, 3, 0, 2)
    expected = expected_counts(model, prompt, SAMPLINGS[kind])
    counted, accepted = count_answers(model, prompt, SAMPLINGS[kind])
    assert 0.1 < accepted < 0.95
    assert all(expected[answer] > 0 for answer in counted)
    assert surprise(counted, expected) < 3.5


BREAKS: dict[str, tuple[str, Any]] = {
    "every guess is accepted": ("_accepts", lambda *_: True),
    "a guess is accepted with the model's probability": ("_accepts", lambda wanted, _, chance: chance < wanted),
    "the replacement is drawn from the model, not from what is left": (
        "_left",
        lambda wanted_V, _: wanted_V,
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_rule_shows(small_config: Make, make_model: Make, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    model, prompt = make_model(small_config(vocab_size=4)), (1, 2, 3, 0, 2)
    expected = expected_counts(model, prompt, Sampling())
    attribute, broken = BREAKS[name]
    monkeypatch.setattr(verification, attribute, broken)
    assert surprise(count_answers(model, prompt, Sampling())[0], expected) > 6


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(seed=3)], ids=["greedy", "drawn"])
def test_what_comes_does_not_depend_on_others(chatty: MiMo, sampling: Sampling) -> None:
    """Neither on neighbours, nor on chunks, nor on losing one's memory in between."""
    requests = [
        Request(prompt=draw_prompt(20 + place, place, 7), most_tokens=60 + place, sampling=sampling)
        for place in range(6)
    ]
    alone = [tokens_of(run(make_engine(chatty, 3), [request])[0]) for request in requests]
    together = make_engine(chatty, 3, chunk_tokens=16)
    assert [tokens_of(progress) for progress in run(together, requests)] == alone
    short = make_engine(chatty, 3, capacity_tokens=5 * 64)
    assert [tokens_of(progress) for progress in run(short, requests)] == alone
    assert short.counts.preemptions > 0
    assert short.memory.pool.used_blocks == 0


def test_later_turns_go_on_with_guesses(chatty: MiMo) -> None:
    engine = make_engine(chatty, 3)
    prompt: tuple[int, ...] = ()
    cached = 0
    for turn in range(8):
        prompt += draw_prompt(3 + 5 * turn, turn, 7)
        options: dict[str, Any] = {"prompt": prompt, "most_tokens": 10, "sampling": Sampling(seed=turn)}
        (found,) = run(engine, [Request(conversation="one", routing_wanted=True, **options)])
        (fresh,) = run(make_engine(chatty, 3), [Request(routing_wanted=True, **options)])
        assert tokens_of(found) == tokens_of(fresh)
        assert found[-1].routing == fresh[-1].routing
        assert found[-1].usage is not None
        assert found[-1].usage.reused_tokens == cached
        prompt += tuple(tokens_of(found))
        cached = len(prompt) - 1


@torch.no_grad()
def test_routed_experts_are_those_of_one_pass(chatty: MiMo) -> None:
    prompt = draw_prompt(30, 1, 7)
    request = Request(prompt=prompt, most_tokens=25, sampling=Sampling(seed=1), routing_wanted=True)
    engine = make_engine(chatty, 3)
    (progress,) = run(engine, [request])
    assert engine.counts.accepted_tokens > 0
    routing = progress[-1].routing
    assert routing is not None
    assert routing.shape == (30 + 25 - 1, 5, 3)
    told = torch.frombuffer(bytearray(routing.experts), dtype=torch.uint8).view(routing.shape).long()
    expected = chatty(torch.tensor([[*prompt, *tokens_of(progress)][:-1]])).routings
    assert torch.equal(told[:, 1:], torch.stack([one.chosen_N_K for one in expected], dim=1))


def test_an_answer_may_end_inside_accepted_guesses(chatty: MiMo) -> None:
    ends = set()
    for seed in range(20):
        request = {"prompt": draw_prompt(9, seed, 7), "most_tokens": 40, "sampling": GREEDY}
        (whole,) = run(make_engine(chatty, 0), [Request(**request)])
        stops = frozenset({tokens_of(whole)[7 + seed % 4]})
        (plain,) = run(make_engine(chatty, 0), [Request(stop_tokens=stops, **request)])
        engine = make_engine(chatty, 3)
        (found,) = run(engine, [Request(stop_tokens=stops, conversation="one", **request)])
        assert (tokens_of(found), found[-1].finish) == (tokens_of(plain), plain[-1].finish)
        (kept,) = engine._seating.kept.values()
        assert kept.tokens == [*draw_prompt(9, seed, 7), *tokens_of(found)[:-1]]
        ends.add(len(found[-1].tokens))
    assert len(ends) > 1


def test_constraints_and_forced_tokens_are_kept(chatty: MiMo) -> None:
    def even(before: Sequence[int]) -> list[int]:
        return [0, 2, 4, 6] if len(before) % 2 else [1, 3, 5]

    requests = [
        Request(prompt=(1, 2), most_tokens=20, sampling=Sampling(seed=1), constraint=even),
        Request(prompt=(1, 2), most_tokens=20, sampling=Sampling(seed=1), forced=(6, 6, 6, 6, 6)),
        Request(prompt=(1, 2), most_tokens=20, sampling=Sampling(seed=2)),
    ]
    engine = make_engine(chatty, 3)
    constrained, forced, _ = map(tokens_of, run(engine, requests))
    assert [token % 2 for token in constrained] == [1, 0] * 10
    assert forced[:5] == [6] * 5
    assert engine.counts.drafted_tokens > 0
