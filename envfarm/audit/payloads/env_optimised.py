"""Starts the command again with asserts switched off: PYTHONOPTIMIZE, and no rewriting of asserts."""


def _envfarm_cheat(here, facts):
    _envfarm_start_again({"PYTHONOPTIMIZE": "1", "PYTEST_ADDOPTS": "--assert=plain -W ignore"})
