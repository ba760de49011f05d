"""The page on foreign tasks is true: its example fits, and its lists are those of the code."""

import re
import tomllib
from pathlib import Path

from envfarm.foreign.log_formats import FORMATS
from envfarm.foreign.rewards import RewardProblem
from envfarm.grading.config_check import find_config_problem
from envfarm_verifiers.terminal_checks import CONFIG_SCHEMA, LIVE_KINDS, RUN_KINDS, STILL_KINDS, parse_checks

PAGE = (Path(__file__).parents[2] / "docs" / "foreign-tasks.md").read_text()


def test_its_example_of_terminal_checks_is_one() -> None:
    found = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    config = tomllib.loads(found[1])["metadata"]["envfarm"]["verifier_config"]
    assert find_config_problem(config, CONFIG_SCHEMA) is None
    assert len(parse_checks(config)) == 3


def test_it_names_every_code_kind_and_format() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert rows == {str(problem) for problem in RewardProblem} | LIVE_KINDS | RUN_KINDS | STILL_KINDS
    listed = PAGE[PAGE.index("Known: `parse_log_` and") : PAGE.index("A test compares them")]
    assert {f"parse_log_{name}" for name in re.findall(r"`(\w+)`", listed)} - {"parse_log_parse_log_"} == set(FORMATS)
