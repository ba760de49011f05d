"""What a request may not ask of the engine; none of it needs torch."""

import json
import time
from pathlib import Path

import pytest

from envfarm.model.config import MiMoConfig
from envfarm.model.config_json import parse_config
from envfarm.model.engine.answer_text import AnswerText
from envfarm.model.engine.request import MOST_STOP_TEXT_CHARACTERS, MOST_STOP_TEXTS, Request
from envfarm.model.engine.request_check import complaints_about

REAL = Path(__file__).parents[1] / "data/model/config.json"


@pytest.fixture(scope="module")
def config() -> MiMoConfig:
    return parse_config(json.dumps(json.loads(REAL.read_bytes())))


def complaints(config: MiMoConfig, *stop_texts: str) -> list[str]:
    return complaints_about(Request(prompt=(1,), most_tokens=1, stop_texts=stop_texts), config, 100)


def test_sixteen_stop_texts_of_a_thousand_characters_are_taken(config: MiMoConfig) -> None:
    assert complaints(config, *["x" * 1_024] * 16) == []


@pytest.mark.parametrize(
    ("stop_texts", "told"), [(("x",) * 17, "17 are given"), (("x", "x" * 1_025), "the longest with 1,025")]
)
def test_more_or_longer_stop_texts_are_refused(config: MiMoConfig, stop_texts: tuple[str, ...], told: str) -> None:
    (complaint,) = complaints(config, *stop_texts)
    assert complaint.startswith("there may be 16 stop texts, each of at most 1,024 characters: ")
    assert told in complaint


def test_the_worst_stop_texts_that_are_taken_cost_little() -> None:
    stops = [f"{place:x}" + "a" * (MOST_STOP_TEXT_CHARACTERS - 1) for place in range(MOST_STOP_TEXTS)]
    answer = AnswerText(stops)
    started = time.process_time()
    for _ in range(20):
        answer.push(b"0" + b"a" * 1_000)
    assert time.process_time() - started < 1
