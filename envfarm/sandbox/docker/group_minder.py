"""Ends the services of a driver that is gone, at once: they have no agent that would notice.

`python -m envfarm.sandbox.docker.group_minder PROVIDER` waits for a word on its standard input. When that ends without
one, since the driver is dead however it died, what the engine has of that provider is removed. What this misses, as
where it is killed as well, the next driver removes (`leftovers`).
"""

import subprocess
import sys
import time
from contextlib import suppress

from envfarm.errors import EnvfarmError
from envfarm.sandbox.docker.container import PROVIDER_LABEL
from envfarm.sandbox.docker.engine import open_engine
from envfarm.sandbox.docker.engine_groups import remove_all

_DISMISSED = b"dismissed"
_QUIET_SECONDS, _MOST_SECONDS, _PAUSE_SECONDS = 3.0, 120.0, 0.1
_END_SECONDS = 10.0


class GroupMinder:
    """Minds the groups of one provider, from the first of them on."""

    def __init__(self, provider: str) -> None:
        """Take the name of the provider; nothing runs yet."""
        self._provider = provider
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Have a minder run from now on."""
        if self._process is None:
            words = [sys.executable, "-P", "-m", "envfarm.sandbox.docker.group_minder", self._provider]
            null = subprocess.DEVNULL
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True
            )

    def dismiss(self) -> None:
        """End the minder: nothing is left to be minded."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(OSError, subprocess.TimeoutExpired):
            process.communicate(_DISMISSED, timeout=_END_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()


def end_groups(provider: str) -> None:
    """Remove what the engine has of a provider, until nothing new has come for a while."""
    started = quiet_since = time.monotonic()
    with open_engine() as engine:
        while time.monotonic() - quiet_since < _QUIET_SECONDS and time.monotonic() - started < _MOST_SECONDS:
            with suppress(EnvfarmError):
                if remove_all(engine, f"{PROVIDER_LABEL}={provider}"):
                    quiet_since = time.monotonic()
            time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    if sys.stdin.buffer.read() != _DISMISSED:
        end_groups(sys.argv[1])
