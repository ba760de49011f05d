"""Where the agent's programs lie; a provider brings one of them into its box."""

import platform
from pathlib import Path

from envfarm.errors import MissingToolError

_FOLDER = Path(__file__).parent
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
TWIN = _FOLDER / "twin"
"""The Python twin, a folder to be run by any CPython from 3.6 on: ``python3 -I -S TWIN --unix PATH``."""


def agent_program(machine: str | None = None) -> Path:
    """Return the static program for a kind of machine, as `platform.machine` names it; this one's by default.

    Raises:
        MissingToolError: There is none; the twin runs wherever Python does.
    """
    name = machine or platform.machine()
    kind = _MACHINES.get(name.lower())
    if kind is None:
        message = f"there is no agent program for {name}: run the twin with a Python of the sandbox ({TWIN})"
        raise MissingToolError(message)
    return _FOLDER / "programs" / f"envfarm-agent-{kind}"
