"""What a compose command makes of files that unfold to gigabytes: an end in one line, within bounds."""

from pathlib import Path

import anyio
import pytest

from envfarm.sandbox.docker.compose_command import resolve_compose


@pytest.mark.parametrize(("times", "words"), [(5, "more than 4 MiB"), (3000, "(?i)memory")])
def test_variables_that_unfold_to_too_much_are_refused(
    tmp_path: Path, compose_command: str, times: int, words: str
) -> None:
    environment = {f"A{number}": "$X" * times for number in range(20)}
    document = {"services": {"db": {"image": "x", "environment": environment}}}
    variables = {"X": "x" * 90_000}

    async def run() -> None:
        with pytest.raises(ValueError, match=words):
            await resolve_compose(compose_command, tmp_path, str(tmp_path), [document], variables)

    anyio.run(run)
