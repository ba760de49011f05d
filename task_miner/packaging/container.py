"""Texts of a task folder that a container engine or a person reads. PURE."""

from collections.abc import Mapping

PYTHON_IMAGES: Mapping[str, str] = {
    "3.8": "3.8.20",
    "3.9": "3.9.21",
    "3.10": "3.10.16",
    "3.11": "3.11.11",
    "3.12": "3.12.8",
    "3.13": "3.13.1",
    "3.14": "3.14.0",
}
"""Full version of the base image per minor version: fixed, so that a task mined later is the same task."""

_DOCKERFILE = """\
# The sandbox of one task: an interpreter, the locked environment, the project's metadata, the workspace.
# Only the first two RUN lines use the network.
FROM python:{version}-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
COPY requirements.txt /opt/requirements.txt
RUN python -m venv /opt/venv \\
 && /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes -r /opt/requirements.txt
COPY project/ /opt/project/
RUN echo "import site; site.addsitedir('/opt/project')" \\
    > "$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_envfarm_project.pth"
COPY workspace.tar.xz /opt/workspace.tar.xz
RUN mkdir -p /workspace \\
 && python -c "import tarfile; tarfile.open('/opt/workspace.tar.xz').extractall('/workspace')" \\
 && rm /opt/workspace.tar.xz
WORKDIR /workspace
ENV PATH=/opt/venv/bin:/opt/project/bin:/usr/local/bin:/usr/bin:/bin{variables}
"""

SOLVE_SH = b"""\
#!/bin/sh
# Applies the true fix.
set -eu
cd /workspace
git apply --whitespace=nowarn /solution/fix.patch
"""


def render_dockerfile(interpreter: str, environment_variables: Mapping[str, str]) -> bytes:
    """Return the Dockerfile for an interpreter's minor version; a minor unknown here is its own tag."""
    variables = "".join(f' \\\n    {name}="{_quoted(value)}"' for name, value in sorted(environment_variables.items()))
    version = PYTHON_IMAGES.get(interpreter, interpreter)
    return _DOCKERFILE.format(version=version, variables=variables).encode()


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\n", " ")
