"""Penalties and biases are what their formulas say, for guesses as well, and change nothing where nobody asked."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from envfarm.errors import RequestRefusedError
from envfarm.model.engine import verification
from envfarm.model.engine.engine import Engine
from envfarm.model.engine.limits import EngineLimits
from envfarm.model.engine.logit_changes import Before, change_logits
from envfarm.model.engine.request import Request, Sampling
from envfarm.model.mimo import MiMo

Make = Callable[..., Any]
PENALISED = {
    "presence": Sampling(presence_penalty=1.5),
    "frequency": Sampling(frequency_penalty=0.8),
    "repetition": Sampling(repetition_penalty=1.6),
    "all": Sampling(presence_penalty=-0.7, frequency_penalty=1.1, repetition_penalty=0.8, logit_bias=((2, 1.5),)),
}
STRONG = Sampling(presence_penalty=2, frequency_penalty=2, repetition_penalty=0.8, logit_bias=((2, 1.0),))
PROMPT = (1, 2, 3, 0, 2)


def expected_logits(
    logits: Sequence[float], sampling: Sampling, prompt: Sequence[int], answer: Sequence[int]
) -> list[float]:
    """Change logits one by one, as the formulas are written."""
    found = []
    for token, logit in enumerate(logits):
        value = logit
        if token in prompt or token in answer:
            value = value / sampling.repetition_penalty if value > 0 else value * sampling.repetition_penalty
        value -= answer.count(token) * sampling.frequency_penalty
        value -= (token in answer) * sampling.presence_penalty
        found.append(value + dict(sampling.logit_bias).get(token, 0))
    return found


@pytest.mark.parametrize("kind", PENALISED)
def test_logits_are_changed_as_the_formulas_say(kind: str) -> None:
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(1)) * 3
    sampling, known = PENALISED[kind], (5, 5, 7, 0, 1, 0, 0, 8)
    before = [Before(sampling, known, 4), Before(Sampling(), known, 4), Before(sampling, known[:4], 0)]
    found = change_logits(logits, before)
    first = expected_logits(logits[0].tolist(), sampling, known[:4], known[4:])
    last = expected_logits(logits[2].tolist(), sampling, known[:4], ())
    assert found[0].tolist() == pytest.approx(first, abs=1e-5)
    assert torch.equal(found[1], logits[1])
    assert found[2].tolist() == pytest.approx(last, abs=1e-5)
    assert change_logits(logits, before[1:2] * 3) is logits


def run(model: MiMo, requests: Sequence[Request], draft_tokens: int) -> tuple[list[list[int]], Engine]:
    engine = Engine(model, EngineLimits(draft_tokens=draft_tokens, running=400, capacity_tokens=65_536), lambda _: b"x")
    found: dict[int, list[int]] = {engine.submit(request): [] for request in requests}
    while engine.has_work:
        for progress in engine.step():
            found[progress.request_id] += [token.token for token in progress.tokens]
    return list(found.values()), engine


@pytest.mark.parametrize("kind", PENALISED)
def test_greedy_answers_are_the_same_with_guesses(small_config: Make, make_model: Make, kind: str) -> None:
    model = make_model(small_config(vocab_size=7))
    options = {name: getattr(PENALISED[kind], name) for name in Sampling.__dataclass_fields__}
    sampling = Sampling(**{**options, "temperature": 0})
    requests = [
        Request(
            prompt=tuple((place * 5 + step * step) % 7 for step in range(4 + place)), most_tokens=30, sampling=sampling
        )
        for place in range(20)
    ]
    plain, _ = run(model, requests, 0)
    guessing, engine = run(model, requests, 3)
    assert guessing == plain
    assert engine.counts.accepted_tokens > 20
    unchanged, _ = run(
        model, [Request(prompt=one.prompt, most_tokens=30, sampling=Sampling(temperature=0)) for one in requests], 0
    )
    assert plain != unchanged


DRAWS = 2_500


@torch.no_grad()
def expected_counts(model: MiMo, sampling: Sampling) -> dict[tuple[int, ...], float]:
    """Return how often each answer of three tokens has to come."""
    found = {}
    for answer in itertools.product(range(4), repeat=3):
        rows = model.lm_head(model(torch.tensor([[*PROMPT, *answer]])).hidden_B_T_D[0, len(PROMPT) - 1 : -1]).tolist()
        chance = 1.0
        for place, token in enumerate(answer):
            logits = torch.tensor(expected_logits(rows[place], sampling, PROMPT, answer[:place]), dtype=torch.float64)
            chance *= float(logits.softmax(-1)[token])
        found[answer] = DRAWS * chance
    return found


def surprise(model: MiMo, sampling: Sampling, draft_tokens: int) -> float:
    """Return how many standard deviations the chi-square statistic lies above its mean (Wilson and Hilferty)."""
    expected = expected_counts(model, sampling)
    options = {name: getattr(sampling, name) for name in Sampling.__dataclass_fields__}
    requests = [
        Request(prompt=PROMPT, most_tokens=3, sampling=Sampling(**{**options, "seed": seed})) for seed in range(DRAWS)
    ]
    counted = Counter(map(tuple, run(model, requests, draft_tokens)[0]))
    likely = {answer for answer, wanted in expected.items() if wanted >= 8}
    cells = [(counted[answer], expected[answer]) for answer in likely]
    rest = sum(expected.values()) - sum(wanted for _, wanted in cells)
    if rest >= 8:
        cells.append((DRAWS - sum(count for count, _ in cells), rest))
    freedom = len(cells) - 1
    total = sum((count - wanted) ** 2 / wanted for count, wanted in cells)
    spread = math.sqrt(2 / (9 * freedom))
    return float(((total / freedom) ** (1 / 3) - 1 + spread**2) / spread)


@pytest.mark.parametrize("draft_tokens", [0, 3])
def test_drawn_answers_have_the_changed_distribution(small_config: Make, make_model: Make, draft_tokens: int) -> None:
    model = make_model(small_config(vocab_size=4))
    assert surprise(model, STRONG, draft_tokens) < 3.5


def test_guesses_without_the_penalties_of_those_before_them_show(
    small_config: Make, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_the_first(logits_T_V: torch.Tensor, before: Sequence[Before]) -> torch.Tensor:
        return change_logits(logits_T_V, [Before(one.sampling, before[0].tokens, before[0].answered) for one in before])

    monkeypatch.setattr(verification, "change_logits", only_the_first)
    assert surprise(make_model(small_config(vocab_size=4)), STRONG, 3) > 6


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"presence_penalty": 2.1}, "presence_penalty has to be from -2 to 2"),
        ({"frequency_penalty": float("nan")}, "frequency_penalty has to be"),
        ({"repetition_penalty": 0.0}, "repetition_penalty has to be from 0.1 to 10"),
        ({"logit_bias": ((1, 101.0),)}, "a logit_bias has to be from -100 to 100"),
        ({"logit_bias": ((1, float("nan")),)}, "a logit_bias has to be"),
        ({"logit_bias": ((-1, 1.0),)}, "logit_bias: a token is not one of the 97"),
    ],
)
def test_changes_out_of_range_are_refused(
    small_config: Make, make_model: Make, change: dict[str, Any], complaint: str
) -> None:
    engine = Engine(make_model(small_config()), EngineLimits(), lambda _: b"x")
    with pytest.raises(RequestRefusedError, match=complaint):
        engine.submit(Request(prompt=(1,), most_tokens=1, sampling=Sampling(**change)))
