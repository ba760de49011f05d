"""What a task folder's tests/ carries so that Harbor can grade it: test.sh, and copies of the box programs."""

from importlib.resources import files

TEST_SH = """\
#!/bin/sh
# Grades the workspace; writes {"reward": 1.0} or {"reward": 0.0} to /logs/verifier/reward.json.
exec /opt/venv/bin/python -I /tests/harbor_tests.py
"""


def box_program(name: str) -> bytes:
    """Return the text of a program that runs inside a box, such as ``launch.py``."""
    return files("envfarm_verifiers").joinpath("box_programs", name).read_bytes()
