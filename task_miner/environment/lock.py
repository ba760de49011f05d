"""Locks requirements with hashes, in a box with the network, as the package index was on a day.

A lock is kept by what went into it, so that commits with the same requirements of the same month share it, and with it
their environment. Rungs are tried in order; each try is recorded with the reason it was made.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from envfarm.images.install_box import InstallBox
from envfarm.images.interpreters import Interpreter
from envfarm.records.task import EnvironmentStep
from envfarm.records.versioned import Part
from task_miner.environment.ladder import Rung
from task_miner.output_folder import write_atomically

RECIPE_VERSION = "1"
"""Raised whenever the same inputs would be locked or installed otherwise."""
_PLATFORM = "x86_64-unknown-linux-gnu"
"""Locks are for one platform, whichever machine mines: the same bytes everywhere."""


class Lock(Part, frozen=True, kw_only=True):
    """A lock: requirements with hashes, and the commands that made it."""

    text: str
    cutoff: str | None
    steps: tuple[EnvironmentStep, ...]


@dataclass(frozen=True, kw_only=True)
class LockRequest:
    """What to lock.

    Attributes:
        project: The project itself; left out of the lock even where a dependency asks for it.
        rungs: What to try, best first.
        cutoffs: Bounds on releases' age to try for each rung, in order; None for no bound.
        interpreter: The interpreter that it is for.
        extra: Requirements of the missing-module repair.
    """

    project: str
    rungs: tuple[Rung, ...]
    cutoffs: tuple[str | None, ...]
    interpreter: Interpreter
    extra: tuple[str, ...] = ()

    def key(self) -> str:
        """Return the digest of everything that the lock depends on."""
        told = (
            RECIPE_VERSION,
            self.project,
            self.interpreter.minor,
            *(repr(rung.requirements) for rung in self.rungs),
            *map(str, self.cutoffs[:1]),
            repr(self.extra),
        )
        return hashlib.sha256("\0".join(told).encode()).hexdigest()[:32]


class LockFailedError(Exception):
    """No rung could be locked; the text is the log."""


async def make_lock(box: InstallBox, request: LockRequest, *, cache_folder: Path) -> Lock:
    """Return the lock of the first rung that resolves, from the cache where it is there.

    Raises:
        LockFailedError: None resolves.
    """
    logs = []
    for rung in request.rungs:
        requirements = tuple(sorted({*rung.requirements, *request.extra}))
        for cutoff in request.cutoffs:
            arguments = _compile_arguments(request, cutoff)
            result = await box.uv(*arguments, stdin="\n".join(requirements).encode())
            if result.exit_code == 0:
                reason = f"lock {', '.join(rung.reasons)} as of {cutoff or 'today'}"
                step = EnvironmentStep(command=("uv", *_told(arguments)), reason=reason)
                text = _normalised(result.stdout.decode(), request.project)
                lock = Lock(text=text, cutoff=cutoff, steps=(step,))
                write_atomically(_path(request, cache_folder), msgspec.json.encode(lock))
                return lock
            logs.append(f"{', '.join(rung.reasons)} as of {cutoff}:\n{box.log_of(result)}")
    raise LockFailedError("\n".join(logs))


def read_lock(request: LockRequest, *, cache_folder: Path) -> Lock | None:
    """Return the lock from the cache; None where it is not there or of another release."""
    try:
        return msgspec.json.decode(_path(request, cache_folder).read_bytes(), type=Lock)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def lock_names(text: str) -> frozenset[str]:
    """Return the normalised names of a lock's distributions."""
    return frozenset(match.lower() for match in re.findall(r"^([A-Za-z0-9][\w.-]*)==", text, re.MULTILINE))


def _path(request: LockRequest, cache_folder: Path) -> Path:
    return cache_folder / "locks" / f"{request.key()}.json"


def _compile_arguments(request: LockRequest, cutoff: str | None) -> tuple[str, ...]:
    return (
        "pip",
        "compile",
        "--quiet",
        "--no-header",
        "--no-annotate",
        "--generate-hashes",
        "--python",
        request.interpreter.executable,
        "--python-version",
        request.interpreter.minor,
        "--python-platform",
        _PLATFORM,
        *(("--exclude-newer", cutoff) if cutoff else ()),
        "-",
    )


def _told(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments without what only this machine knows."""
    return tuple(word for i, word in enumerate(arguments) if "--python" not in (word, arguments[max(i - 1, 0)]))


def _normalised(text: str, project: str) -> str:
    """Return the lock with one requirement after another, sorted, without the project itself and without options."""
    blocks = re.split(r"\n(?=[^\s#])", text.strip())
    name = re.sub(r"[-_.]+", "[-_.]+", project)
    own = re.compile(rf"{name}==", re.IGNORECASE)
    kept = [block.rstrip() for block in blocks if re.match(r"[A-Za-z0-9]", block) and not own.match(block)]
    return "".join(f"{block}\n" for block in sorted(kept))
