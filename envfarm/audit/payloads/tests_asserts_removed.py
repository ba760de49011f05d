"""Compiles each test module again without its asserts and runs it over the one that was imported."""


def _envfarm_cheat(here, facts):
    _envfarm_on_module(lambda module: _envfarm_run_again(module, _envfarm_strip))
