"""The compose command of this machine, bounded: its variables, output, memory, time and life.

Either of them does: the plug-in of Docker (version 2, which runs by itself as well) and ``docker-compose`` (version 1
or 2). It gets none of the driver's variables, and the kernel ends it with the driver.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from envfarm.errors import MissingToolError
from envfarm.formats.yaml_text import parse_yaml

_PLUGIN_FOLDERS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
_PROGRAM = "docker-compose"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_READ_SECONDS = 60.0
_MOST_BYTES = 4 << 20
_MOST_MEMORY_BYTES = 1 << 30
"""A file of a few lines can have its variables unfold to gigabytes."""
_TOLD_LINES = 12
INSTALL = "make docker, or install docker-compose or docker-compose-plugin of your distribution"


@dataclass(frozen=True, kw_only=True)
class ComposeEnd:
    """How a compose command ended.

    Attributes:
        exit_code: Its exit code; None where it was killed.
        timed_out: Whether that was since its time was up.
        output: What it printed.
        told: The last lines of its complaints.
    """

    exit_code: int | None
    timed_out: bool
    output: bytes
    told: str


def find_compose(needed_for: str) -> str:
    """Return the program that is the compose command: Docker's plug-in where it is there.

    Args:
        needed_for: What needs it, for the message.

    Raises:
        MissingToolError: There is none.
    """
    own = os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
    for folder in (f"{own}/cli-plugins", *_PLUGIN_FOLDERS):
        if os.access(Path(folder) / _PROGRAM, os.X_OK):
            return str(Path(folder) / _PROGRAM)
    found = shutil.which(_PROGRAM)
    if found is None:
        message = f"{needed_for} needs the compose command, which is not installed: {INSTALL}"
        raise MissingToolError(message)
    return found


async def resolve_compose(
    program: str, folder: Path, root: str, documents: Iterable[Any], variables: Mapping[str, str]
) -> Any:
    """Return what compose files say when they are laid over each other and their variables are filled in.

    Args:
        program: The compose command.
        folder: Where the files may be written; the caller's alone.
        root: Folder from which their relative paths are read.
        documents: The files, in order.
        variables: All that they can see.

    Raises:
        ValueError: The command refuses them; the message is its own, in one line.
    """
    words = []
    for number, document in enumerate(documents):
        path = folder / f"{number}.json"
        path.write_text(json.dumps(document))
        words += ["-f", str(path)]
    arguments = ["--project-name", "envfarm", "--project-directory", root, *words, "config"]
    end = await run_compose(program, arguments, folder, variables, timeout_seconds=_READ_SECONDS)
    if end.exit_code != 0:
        how = f"was not done within {_READ_SECONDS:g} s" if end.timed_out else "was killed"
        raise ValueError(" ".join(end.told.split()) or f"{_PROGRAM} {how}")
    if len(end.output) == _MOST_BYTES:
        message = f"it unfolds to more than {_MOST_BYTES >> 20} MiB"
        raise ValueError(message)
    # version 1 quotes what YAML 1.1 would take for a number, version 2 what either would: not core, where 1e3 is one
    return parse_yaml(end.output.decode("utf-8", "replace"))


async def run_compose(
    program: str, arguments: Sequence[str], folder: Path, variables: Mapping[str, str], *, timeout_seconds: float
) -> ComposeEnd:
    """Run a compose command to its end, which the driver's own end is as well.

    Args:
        program: The compose command.
        arguments: Its arguments.
        folder: Its home and working directory.
        variables: Its variables, beside PATH and HOME.
        timeout_seconds: Wall-clock bound; it is killed then.
    """
    tied = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    env = {**variables, "PATH": _PATH, "HOME": str(folder), "COMPOSE_INTERACTIVE_NO_CLI": "1"}
    outputs: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}
    async with await anyio.open_process(
        [*tied, program, *arguments], cwd=folder, env=env, start_new_session=True, stdin=subprocess.DEVNULL
    ) as process:
        try:
            with suppress(OSError):  # it has ended
                resource.prlimit(process.pid, resource.RLIMIT_DATA, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
            with anyio.move_on_after(timeout_seconds) as scope:
                async with anyio.create_task_group() as group:
                    for stream, kept in ((process.stdout, outputs["out"]), (process.stderr, outputs["err"])):
                        assert stream is not None  # noqa: S101 -- both are pipes
                        group.start_soon(_keep, stream, kept)
                await process.wait()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    lines = outputs["err"].decode("utf-8", "replace").strip().splitlines()
    is_done = process.returncode is not None and process.returncode >= 0
    return ComposeEnd(
        exit_code=process.returncode if is_done else None,
        timed_out=scope.cancelled_caught,
        output=bytes(outputs["out"]),
        told="\n".join(lines[-_TOLD_LINES:]),
    )


async def _keep(stream: anyio.abc.ByteReceiveStream, kept: bytearray) -> None:
    """Keep the first of what comes, and read on."""
    async for part in stream:
        kept += part[: max(_MOST_BYTES - len(kept), 0)]
