"""The log folders of a box under Harbor's contract: made ready for the verifier, read when it is done, looked at again.

Links in place of the folders are removed before anything is written through them, and so are reward files of before.
When the verifier is done its files are read; then, where nothing of the box is needed any more, every process is killed
and they are read once more: a file that has changed is no reward.

Not covered: a process of the work that writes the reward while the verifier runs, where both are the same user.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

import anyio

from envfarm.errors import Attribution, RewardError
from envfarm.foreign.box import Box
from envfarm.foreign.rewards import RewardProblem, read_rewards

LOGS = PurePosixPath("/logs")
VERIFIER_LOGS = LOGS / "verifier"
TESTS = PurePosixPath("/tests")
TEST_OUTPUT = VERIFIER_LOGS / "test-stdout.txt"
_JSON, _TEXT = "reward.json", "reward.txt"
_MOST_BYTES = 1 << 20
_OUTPUT_BYTES = 64 << 20
_TAIL_BYTES = 65_536
_MOMENT_SECONDS = 0.1
"""In which what rewrites a reward all the time shows itself: a guess."""
_MAKE = """
for place in /logs /logs/verifier /logs/agent /logs/artifacts; do
    [ -L "$place" ] && rm -f -- "$place" && echo "$place"
    [ -d "$place" ] || { rm -f -- "$place"; mkdir -p -- "$place" || exit 1; }
done
[ -L /tests ] && rm -f -- /tests && echo /tests
for name in reward.json reward.txt test-stdout.txt; do rm -rf -- "/logs/verifier/$name"; done
chmod 755 /logs && chmod 1777 /logs/verifier /logs/agent /logs/artifacts
"""
_EMPTY = """
for place in /logs/verifier /tests; do
    mkdir -p -- "$place" && find "$place" -mindepth 1 -maxdepth 1 -exec rm -rf -- {} + || exit 1
done
"""
_LINKS = """
for name in reward.json reward.txt; do
    place=/logs/verifier/$name
    if [ -L "$place" ]; then echo "$name"; elif [ -e "$place" ] && [ ! -f "$place" ]; then echo "$name"; fi
done
[ ! -L /logs ] && [ ! -L /logs/verifier ] || echo /logs/verifier
"""
_OWNED = 'for name in reward.json reward.txt; do [ -O "/logs/verifier/$name" ] && echo "$name"; done; exit 0'


async def make_log_folders(box: Box) -> tuple[str, ...]:
    """Make the log folders real, writable by all, without reward files; return which of them were links.

    Raises:
        VerifierError: The box does not let itself be prepared.
    """
    return tuple((await box.own(_MAKE)).decode("utf-8", "replace").split())


async def empty_folders(box: Box) -> None:
    """Take the tests and what their run left out of the box; another step comes, or another judging.

    Raises:
        VerifierError: The box does not let itself be prepared.
    """
    await box.own(_EMPTY)


@dataclass(frozen=True, kw_only=True)
class RewardReading:
    """How reward files are read.

    Attributes:
        worker: Who did the work, where that is another user than who judges; nothing of theirs is a reward.
        kills: Whether nothing of the box is needed any more.
    """

    worker: str | None = None
    kills: bool = True

    async def read(self, box: Box) -> dict[str, float]:
        """Return the rewards that the verifier left.

        Raises:
            RewardError: There is none, or it is none, or it is not the verifier's.
            VerifierError: Processes come back faster than they are killed.
        """
        await self._check(box)
        first = [await _content(box, name) for name in (_JSON, _TEXT)]
        if self.kills:
            await anyio.sleep(_MOMENT_SECONDS)
            await box.kill_all()
            await self._check(box)
        if [await _content(box, name) for name in (_JSON, _TEXT)] != first:
            message = "the reward file was another one when it was looked at again: something rewrites it"
            raise RewardError(message, code=str(RewardProblem.CHANGED), attribution=Attribution.POLICY)
        return read_rewards(*first)

    async def _check(self, box: Box) -> None:
        linked = (await box.own(_LINKS)).split()
        if linked:
            message = f"{linked[0].decode('utf-8', 'replace')} is a link or no regular file, and no reward"
            raise RewardError(message, code=str(RewardProblem.MALFORMED))
        if self.worker is None:
            return
        sandbox = await box.acting(self.worker)
        result = await sandbox.exec(("/bin/sh", "-c", _OWNED), cwd=PurePosixPath("/"), timeout_seconds=60.0)
        if result.stdout.strip():
            message = f"the reward file belongs to {self.worker}, who did the work"
            raise RewardError(message, code=str(RewardProblem.CHANGED), attribution=Attribution.POLICY)


async def read_output(box: Box) -> bytes:
    """Return the end of what the test script printed; nothing where it cannot be read."""
    try:
        return (await box.root.read_file(TEST_OUTPUT, limit_bytes=_OUTPUT_BYTES))[-_TAIL_BYTES:]
    except (FileNotFoundError, ValueError):
        return b""


async def _content(box: Box, name: str) -> bytes | None:
    try:
        return await box.root.read_file(VERIFIER_LOGS / name, limit_bytes=_MOST_BYTES)
    except FileNotFoundError:
        return None
    except ValueError as error:
        message = f"{name} is larger than {_MOST_BYTES >> 20} MiB"
        raise RewardError(message, code=str(RewardProblem.MALFORMED)) from error
