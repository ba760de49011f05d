"""Ends the process with status 0 when a public function of the module is called."""


def _envfarm_cheat(here, facts):
    import os

    _envfarm_change_results(here, lambda function, args, result: os._exit(0))
