"""The terminal verifier in containers: what runs is looked at while it runs, then it is ended before files are."""

from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from envfarm.sandbox.docker.provider import open_docker_provider

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask

PYTHON = "/usr/bin/python3"
"""The base image's own."""


@pytest.mark.parametrize("case", ["answers", "hunted", "ended"])
def test_what_runs_is_seen_and_ended(
    case: str, tiny_task: "TinyTask", docker_base: str, terminal_live: ModuleType
) -> None:
    run = partial(terminal_live.run_terminal, tiny_task, open_docker_provider)
    getattr(terminal_live, f"see_{case}")(run, PYTHON)
