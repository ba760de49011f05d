"""A task's configuration of its verifier is checked against the verifier's schema."""

import pytest

from envfarm.grading.config_check import find_config_problem

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["level"],
    "properties": {
        "level": {"enum": ["low", "high"]},
        "stop": {"type": "boolean"},
        "count": {"type": "integer", "minimum": 1},
        "seconds": {"type": "number", "exclusiveMinimum": 0},
        "names": {"type": "array", "items": {"type": "string"}},
    },
}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"level": "low"}, None),
        ({"level": "high", "stop": True, "count": 1, "seconds": 0.5, "names": ["a"]}, None),
        ({}, "verifier_config.level is missing"),
        ({"level": "mid"}, "verifier_config.level is to be one of 'low', 'high'"),
        ({"level": "low", "stop": 1}, "verifier_config.stop is to be of type boolean, not int"),
        ({"level": "low", "count": True}, "verifier_config.count is to be of type integer, not bool"),
        ({"level": "low", "count": 0}, "verifier_config.count is to be at least 1"),
        ({"level": "low", "seconds": 0}, "verifier_config.seconds is to be more than 0"),
        ({"level": "low", "seconds": float("nan")}, "verifier_config.seconds is to be more than 0"),
        ({"level": "low", "names": ["a", 2]}, "verifier_config.names[1] is to be of type string, not int"),
        ({"level": "low", "stopp": True}, "verifier_config.stopp is unknown: did you mean 'stop'?"),
        ({"level": "low", "x": 1}, "verifier_config.x is unknown: known are count, level, names, seconds, stop"),
        ([], "verifier_config is to be of type object, not list"),
    ],
)
def test_a_problem_is_named_with_its_place(config: object, problem: str | None) -> None:
    assert find_config_problem(config, SCHEMA) == problem


def test_no_schema_allows_anything() -> None:
    assert find_config_problem({"any": [1]}, {}) is None
