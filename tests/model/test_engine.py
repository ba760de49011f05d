"""The engine against plain passes over whole rows: whatever is in the batch, each request gets what it would alone."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from envfarm.errors import RequestRefusedError
from envfarm.model.engine.block_pool import BLOCK_TOKENS
from envfarm.model.engine.engine import Engine
from envfarm.model.engine.limits import EngineLimits
from envfarm.model.engine.request import Finish, Progress, Request, Sampling
from envfarm.model.engine.sampling import Draw, draw_tokens, token_probabilities
from envfarm.model.mimo import MiMo

Make = Callable[..., Any]
GREEDY = Sampling(temperature=0)
GENERATED: dict[tuple[tuple[int, ...], int, Sampling], list[int]] = {}


def letters(token: int) -> bytes:
    return bytes([33 + token % 90])


def draw_prompt(length: int, seed: int) -> tuple[int, ...]:
    return tuple(torch.randint(0, 97, (length,), generator=torch.Generator().manual_seed(seed)).tolist())


def run(engine: Engine, limit: int = 10_000) -> dict[int, list[Progress]]:
    """Step until nothing is left to do."""
    found: dict[int, list[Progress]] = {}
    while engine.has_work:
        limit -= 1
        assert limit > 0, "the engine does not come to an end"
        for progress in engine.step():
            found.setdefault(progress.request_id, []).append(progress)
    return found


def tokens_of(progress: Sequence[Progress]) -> list[int]:
    return [token.token for one in progress for token in one.tokens]


def alone(model: MiMo, request: Request) -> list[int]:
    """Generate without cache, batch, or chunk; all models of this file that are asked have the same weights."""
    key = request.prompt, request.most_tokens, request.sampling
    if key not in GENERATED:
        GENERATED[key] = generate_alone(model, request)
    return GENERATED[key]


def generate_alone(model: MiMo, request: Request) -> list[int]:
    ids = list(request.prompt)
    for place in range(request.most_tokens):
        with torch.no_grad():
            hidden = model(torch.tensor([ids])).hidden_B_T_D[:, -1]
            ids += draw_tokens(model.lm_head(hidden), [Draw(request.sampling, place)])
    return ids[len(request.prompt) :]


def make_requests(sampling: Callable[[int], Sampling]) -> list[Request]:
    sizes = [1, 5, 70, 33, 2, 140, 64, 65, 17]
    return [
        Request(prompt=draw_prompt(size, place), most_tokens=6 + 9 * (place % 3), sampling=sampling(place))
        for place, size in enumerate(sizes)
    ]


SAMPLINGS: dict[str, Callable[[int], Sampling]] = {
    "greedy": lambda _: GREEDY,
    "drawn": lambda place: Sampling(seed=place),
    "mixed": lambda place: Sampling(temperature=(place % 3) * 0.7, top_p=1 - 0.2 * (place % 2), top_k=20 * (place % 4)),
}


@pytest.mark.parametrize("kind", SAMPLINGS)
@pytest.mark.parametrize("chunk", [7, 64, 512])
def test_requests_of_different_lengths_get_what_they_get_alone(
    small_config: Make, make_model: Make, kind: str, chunk: int
) -> None:
    model = make_model(small_config())
    requests = make_requests(SAMPLINGS[kind])
    engine = Engine(model, EngineLimits(running=4, chunk_tokens=chunk), letters)
    ids = [engine.submit(request) for request in requests]
    found = run(engine)
    for number, request in zip(ids, requests, strict=True):
        assert tokens_of(found[number]) == alone(model, request)
        last = found[number][-1]
        assert (last.finish, [one.finish for one in found[number][:-1]]) == (
            Finish.LENGTH,
            [None] * (len(found[number]) - 1),
        )
        assert last.usage is not None
        assert last.usage.prefilled_tokens == last.usage.prompt_tokens == len(request.prompt)
        assert "".join(one.text for one in found[number]) == b"".join(map(letters, tokens_of(found[number]))).decode()
    assert (engine.memory.pool.used_blocks, engine.memory.free_rows) == (0, 4 + 32)


def test_requests_that_come_later_change_nothing(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    first, *others = make_requests(lambda place: Sampling(seed=9 + place))
    long = Request(prompt=first.prompt, most_tokens=40, sampling=first.sampling)
    expected = alone(model, long)
    engine = Engine(model, EngineLimits(running=8, chunk_tokens=16), letters)
    number, got = engine.submit(long), []
    while engine.has_work:
        if others:
            engine.submit(others.pop())
        got += [token for one in engine.step() if one.request_id == number for token in tokens_of([one])]
    assert got == expected


def test_another_seed_gives_other_tokens(small_config: Make, make_model: Make) -> None:
    engine = Engine(make_model(small_config()), EngineLimits(), letters)
    for seed in (1, 2, 1):
        engine.submit(Request(prompt=(1, 2, 3), most_tokens=12, sampling=Sampling(seed=seed)))
    one, two, three = map(tokens_of, run(engine).values())
    assert one == three
    assert one != two


def test_logprobs_are_the_models(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    engine = Engine(model, EngineLimits(), letters)
    sampling = Sampling(temperature=0.5, top_k=3, seed=4)
    engine.submit(Request(prompt=draw_prompt(9, 0), most_tokens=8, sampling=sampling, top_logprobs=4))
    engine.submit(Request(prompt=draw_prompt(5, 1), most_tokens=3, sampling=GREEDY))
    found = run(engine)
    tokens = [token for one in found[1] for token in one.tokens]
    ids = [*draw_prompt(9, 0), *(token.token for token in tokens)]
    with torch.no_grad():
        expected = model.lm_head(model(torch.tensor([ids])).hidden_B_T_D[0]).log_softmax(-1)[8:-1]
    for token, row in zip(tokens, expected, strict=True):
        assert token.logprob == pytest.approx(float(row[token.token]), abs=1e-4)
        values, places = row.topk(4)
        assert [place for place, _ in token.top] == places.tolist()
        assert [value for _, value in token.top] == pytest.approx(values.tolist(), abs=1e-4)
    assert all(token.top == () for one in found[2] for token in one.tokens)


@pytest.mark.parametrize("chunk", [7, 512])
def test_routed_experts_are_those_of_one_pass(small_config: Make, make_model: Make, chunk: int) -> None:
    model = make_model(small_config())
    engine = Engine(model, EngineLimits(chunk_tokens=chunk), letters)
    prompt = draw_prompt(40, 3)
    engine.submit(Request(prompt=prompt, most_tokens=12, sampling=GREEDY, routing_wanted=True))
    engine.submit(Request(prompt=draw_prompt(20, 5), most_tokens=3, sampling=GREEDY))
    found = run(engine)
    routing = found[1][-1].routing
    assert found[2][-1].routing is None
    assert routing is not None
    assert routing.shape == (40 + 12 - 1, 5, 3)
    told = torch.frombuffer(bytearray(routing.experts), dtype=torch.uint8).view(routing.shape)
    ids = [*prompt, *tokens_of(found[1])]
    with torch.no_grad():
        expected = model(torch.tensor([ids[:-1]])).routings
    assert not told[:, 0].any()
    for layer, one in enumerate(expected, start=1):
        assert torch.equal(told[:, layer].long(), one.chosen_N_K)


def test_what_was_routed_can_be_replayed(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    engine = Engine(model, EngineLimits(), letters)
    engine.submit(Request(prompt=draw_prompt(30, 3), most_tokens=12, sampling=GREEDY, routing_wanted=True))
    (progress,) = run(engine).values()
    routing = progress[-1].routing
    assert routing is not None
    told = torch.frombuffer(bytearray(routing.experts), dtype=torch.uint8).view(routing.shape).long()
    ids = torch.tensor([[*draw_prompt(30, 3), *tokens_of(progress)][:-1]])
    with torch.no_grad():
        replayed = model(ids, replayed=[told[None, :, layer] for layer in range(1, 5)]).hidden_B_T_D
        torch.testing.assert_close(replayed, model(ids).hidden_B_T_D, atol=1e-6, rtol=1e-6)


def test_a_stop_token_belongs_to_the_tokens_and_not_to_the_text(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    whole = alone(model, Request(prompt=(1, 2, 3), most_tokens=30, sampling=Sampling(seed=3)))
    stop = next(token for token in whole[4:] if token not in whole[:4])
    end = whole.index(stop) + 1
    engine = Engine(model, EngineLimits(), letters)
    stops = frozenset({stop})
    engine.submit(Request(prompt=(1, 2, 3), most_tokens=30, sampling=Sampling(seed=3), stop_tokens=stops))
    (progress,) = run(engine).values()
    assert tokens_of(progress) == whole[:end]
    assert progress[-1].finish is Finish.STOP
    assert "".join(one.text for one in progress) == b"".join(map(letters, whole[: end - 1])).decode()


def test_a_stop_text_across_tokens_ends_the_text_before_it(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    request = Request(prompt=(1, 2, 3), most_tokens=30, sampling=Sampling(seed=3))
    text = b"".join(map(letters, alone(model, request))).decode()
    stop = text[10:14]
    assert text.index(stop) == 10
    engine = Engine(model, EngineLimits(), letters)
    engine.submit(Request(prompt=(1, 2, 3), most_tokens=30, sampling=Sampling(seed=3), stop_texts=("zzzzz", stop)))
    (progress,) = run(engine).values()
    assert "".join(one.text for one in progress) == text[:10]
    assert (len(tokens_of(progress)), progress[-1].finish) == (14, Finish.STOP)


@pytest.mark.parametrize("steps", [0, 1, 2, 9, 14])
def test_cancelling_frees_at_once(small_config: Make, make_model: Make, steps: int) -> None:
    model = make_model(small_config())
    other = Request(prompt=draw_prompt(50, 1), most_tokens=40, sampling=GREEDY)
    engine = Engine(model, EngineLimits(running=2, kept_conversations=0, chunk_tokens=40), letters)
    kept = engine.submit(other)
    gone = engine.submit(Request(prompt=draw_prompt(300, 2), most_tokens=40, conversation="x"))
    got = [progress for _ in range(steps) for progress in engine.step() if progress.request_id == kept]
    last = engine.cancel(gone)
    assert last is not None
    assert last.finish is Finish.CANCELLED
    assert engine.memory.pool.used_blocks == (0 if not steps else 1 if steps < 8 else engine.memory.pool.used_blocks)
    assert engine.memory.free_rows == (2 if not steps else 1)
    assert engine.cancel(gone) is None
    got += run(engine)[kept]
    assert tokens_of(got) == alone(model, other)
    assert engine.memory.pool.used_blocks == 0
    for part in (part for layer in range(2) for part in engine.memory.pool.parts(layer)):
        assert not part.any()
    assert engine.memory.free_rows == 2


def test_short_memory_makes_younger_requests_wait_and_changes_nothing(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    requests = [
        Request(
            prompt=draw_prompt(60 + place, place), most_tokens=90, sampling=Sampling(seed=place), routing_wanted=True
        )
        for place in range(4)
    ]
    engine = Engine(model, EngineLimits(running=4, capacity_tokens=5 * BLOCK_TOKENS), letters)
    ids = [engine.submit(request) for request in requests]
    found = run(engine)
    assert engine.counts.preemptions > 0
    for number, request in zip(ids, requests, strict=True):
        assert tokens_of(found[number]) == alone(model, request)
        routing = found[number][-1].routing
        assert routing is not None
        ids = [*request.prompt, *tokens_of(found[number])]
        with torch.no_grad():
            expected = torch.stack([one.chosen_N_K for one in model(torch.tensor([ids[:-1]])).routings], dim=1)
        told = torch.frombuffer(bytearray(routing.experts), dtype=torch.uint8).view(routing.shape)
        assert torch.equal(told[:, 1:].long(), expected)
    assert engine.memory.pool.used_blocks == 0


def test_forced_tokens_come_first_and_are_told_apart(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    engine = Engine(model, EngineLimits(), letters)
    engine.submit(Request(prompt=(5, 6), most_tokens=6, sampling=Sampling(seed=1), forced=(11, 12, 13)))
    (progress,) = run(engine).values()
    tokens = [token for one in progress for token in one.tokens]
    assert [token.token for token in tokens[:3]] == [11, 12, 13]
    assert [token.was_forced for token in tokens] == [True] * 3 + [False] * 3
    with torch.no_grad():
        logits = model.lm_head(model(torch.tensor([[5, 6, 11, 12]])).hidden_B_T_D[0])
    expected = logits.log_softmax(-1)
    assert [token.logprob for token in tokens[:3]] == pytest.approx(
        [float(expected[row, token]) for row, token in ((1, 11), (2, 12), (3, 13))], abs=1e-4
    )


def test_a_constraint_is_kept_at_every_step(small_config: Make, make_model: Make) -> None:
    engine = Engine(make_model(small_config()), EngineLimits(), letters)

    def rising(before: Sequence[int]) -> list[int] | None:
        return None if not before else list(range(before[-1] + 1, 97))

    for seed in range(8):
        sampling = Sampling(temperature=seed % 2, seed=seed)
        engine.submit(Request(prompt=(5, 6), most_tokens=200, sampling=sampling, constraint=rising))
    for progress in run(engine).values():
        tokens = tokens_of(progress)
        assert tokens == sorted(set(tokens))
        assert progress[-1].finish is Finish.DEAD_END
        assert tokens[-1] == 96
        last = progress[-2].tokens[-1]
        assert last.was_forced == (len(tokens) > 1 and tokens[-2] == 95)


def test_numbers_that_are_not_finite_end_their_request_only(small_config: Make, make_model: Make) -> None:
    model = make_model(small_config())
    good = Request(prompt=(1, 2, 3), most_tokens=12, sampling=GREEDY)
    expected = alone(model, good)
    assert 50 not in expected
    model.model.embed_tokens.weight.data[50] = float("nan")
    engine = Engine(model, EngineLimits(running=2, kept_conversations=0), letters)
    bad = [engine.submit(Request(prompt=(50,) * 7, most_tokens=4)) for _ in range(3)]
    number = engine.submit(good)
    found = run(engine)
    assert tokens_of(found[number]) == expected
    assert [found[one][-1].finish for one in bad] == [Finish.NOT_FINITE] * 3


@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 1e-300, 1e-30])
def test_a_tiny_temperature_takes_the_likeliest(temperature: float) -> None:
    logits = torch.tensor([[-3.0, 1e4, 2.0], [5.0, float("-inf"), -1e4], [-7.0, -9.0, -8.0]])
    sampling = Sampling(temperature=temperature, top_p=0.9, seed=3)
    assert token_probabilities(logits, [sampling] * 3).tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert draw_tokens(logits, [Draw(sampling, place) for place in range(3)]) == [1, 0, 0]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ()}, "the prompt is empty"),
    ({"most_tokens": 0}, "at least one token"),
    ({"most_tokens": 500}, "the prompt has 2 tokens and the answer may have 500: that is more than 300"),
    ({"prompt": (1, 97)}, "not one of the 97"),
    ({"forced": (-1,)}, "not one of the 97"),
    ({"top_logprobs": 21}, "from 0 to 20"),
    ({"stop_texts": ("x",) * 17}, "17 are given"),
    ({"stop_texts": ("x" * 1_025,)}, "the longest with 1,025"),
    ({"sampling": Sampling(temperature=float("nan"))}, "temperature has to be"),
    ({"sampling": Sampling(top_p=0)}, "top_p above 0"),
    ({"sampling": Sampling(top_k=-1)}, "top_k at least 0"),
]


@pytest.mark.parametrize(("change", "complaint"), BAD)
def test_a_request_that_cannot_be_done_is_refused(
    small_config: Make, make_model: Make, change: dict[str, Any], complaint: str
) -> None:
    engine = Engine(make_model(small_config()), EngineLimits(context_tokens=300), letters)
    with pytest.raises(RequestRefusedError, match=complaint):
        engine.submit(Request(**{"prompt": (1, 2), "most_tokens": 4, **change}))
    assert not engine.has_work
