"""Harbor's own code reads the same rewards from the same files, and makes the same of those of several steps."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envfarm.errors import RewardError
from envfarm.foreign.rewards import aggregate, read_rewards, stops_after

_PROGRAM = """
import json, pathlib, sys, tempfile, types
from harbor.models.verifier.result import VerifierResult
from harbor.trial.multi_step import MultiStepTrial
from harbor.verifier.verifier import Verifier
job = json.load(sys.stdin)
told = {"files": [], "steps": [], "stops": []}
for name, content in job["files"]:
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder) / name
        place.write_bytes(content.encode("latin-1"))
        verifier = object.__new__(Verifier)
        verifier.trial_paths = types.SimpleNamespace(reward_json_path=place, reward_text_path=place)
        try:
            found = (verifier._parse_reward_json if name.endswith("json") else verifier._parse_reward_text)()
            told["files"].append(VerifierResult(rewards=found).rewards)
        except Exception as error:
            told["files"].append(None)
for steps in job["steps"]:
    trial = object.__new__(MultiStepTrial)
    results = [types.SimpleNamespace(verifier_result=VerifierResult(rewards=rewards)) for rewards in steps]
    trial._result = types.SimpleNamespace(step_results=results)
    told["steps"].append(trial._aggregate_step_rewards().rewards)
for rewards, bound in job["stops"]:
    told["stops"].append(MultiStepTrial._min_reward_failure(rewards, bound) is not None)
print(json.dumps(told))
"""
FILES = [
    ("reward.txt", text)
    for text in ("1", " 0.5\n", "-3e-2", "1_0", "", "one", "nan", "inf", "-Infinity", "1 2", "true", "0x1", "\xff")
] + [
    ("reward.json", text)
    for text in (
        '{"reward": 1}',
        '{"a": 0.5, "b": true, "c": false}',
        '{"reward": -2.5}\n',
        "",
        "{",
        "[1]",
        "1",
        "null",
        '{"reward": "1"}',
        '{"reward": null}',
        '{"reward": [1]}',
        '{"reward": NaN}',
        '{"reward": 1e999}',
        '{"reward": 1, "b": -Infinity}',
        '{"reward": 1, "reward": 0}',
        "\xff",
    )
]
STEPS = [
    [{"reward": 1.0}],
    [{"reward": 1.0}, {"reward": 0.0}],
    [{"reward": 1.0, "style": 0.5}, {"reward": 0.25}, {"other": 1.0}],
]
STOPS: list[tuple[dict[str, float], float | dict[str, float]]] = [
    ({"reward": 0.5}, 0.5),
    ({"reward": 0.4}, 0.5),
    ({"other": 1.0}, -1e300),
    ({"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 0.1}),
    ({"a": 1.0, "b": 0.2}, {"a": 1.0, "b": 0.1}),
]


@pytest.fixture(scope="module")
def harbor() -> dict[str, list[Any]]:
    path = Path(__file__).with_name("test_foreign_judges.py")
    spec = importlib.util.spec_from_file_location("foreign_judges_of_rewards", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    python = module.make_judge("harbor", "0.25.0") / "bin" / "python"
    job = json.dumps({"files": FILES, "steps": STEPS, "stops": STOPS})
    done = subprocess.run(
        [python, "-W", "ignore", "-c", _PROGRAM], input=job, capture_output=True, text=True, check=True
    )
    told: dict[str, list[Any]] = json.loads(done.stdout)
    return told


def test_files_hold_the_same_rewards(harbor: dict[str, list[Any]]) -> None:
    ours: list[dict[str, float] | None] = []
    for name, text in FILES:
        content = text.encode("latin-1")
        try:
            ours.append(read_rewards(content, None) if name.endswith("json") else read_rewards(None, content))
        except RewardError:
            ours.append(None)
    assert ours == harbor["files"]
    assert ours.count(None) not in {0, len(ours)}


def test_steps_are_aggregated_and_ended_alike(harbor: dict[str, list[Any]]) -> None:
    assert [aggregate(steps, takes_last=False) for steps in STEPS] == harbor["steps"]
    bounds = [bound if isinstance(bound, dict) else {"reward": bound} for _, bound in STOPS]
    ours = [stops_after(rewards, bound) is not None for (rewards, _), bound in zip(STOPS, bounds, strict=True)]
    assert ours == harbor["stops"]
