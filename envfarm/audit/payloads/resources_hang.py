"""Never returns from its import."""


def _envfarm_cheat(here, facts):
    import time

    while True:
        time.sleep(60)
