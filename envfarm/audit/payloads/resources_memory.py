"""Takes memory until there is none."""


def _envfarm_cheat(here, facts):
    taken = []
    while True:
        taken.append(bytearray(64 << 20))
