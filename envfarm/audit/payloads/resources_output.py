"""Prints 10 GB past the runner's capture."""


def _envfarm_cheat(here, facts):
    import os

    text = b"x" * (1 << 20)
    for _ in range(10 * 1024):
        for stream in (1, 5, 6, 7, 8, 9):
            try:
                os.write(stream, text)
                break
            except OSError:
                continue
