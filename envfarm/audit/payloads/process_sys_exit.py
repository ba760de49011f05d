"""Raises SystemExit(0) while it is imported."""


def _envfarm_cheat(here, facts):
    import sys

    sys.exit(0)
