"""Runs git for us: no hooks, no configuration of a user's or a machine's, no prompts, and one process for many objects.

The repositories are strangers': nothing of their own configuration is used but what reading objects needs. A git that
reads runs in a process group of its own, so that Ctrl-C at a terminal does not reach it: what it says of a repository
is then never the echo of a user's wish to stop.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from envfarm.errors import RepositoryError

_SAFE = (
    *("-c", "safe.directory=*"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.quotePath=false"),
    *("-c", "diff.external="),
    *("-c", "protocol.ext.allow=never"),
    *("-c", "i18n.logOutputEncoding=UTF-8"),
    *("-c", "gc.auto=0"),
)
_KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_ASKPASS",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
)
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


def git_environment(*, network_allowed: bool = False) -> dict[str, str]:
    """Return the variables of a git process: the user's way to the network, and nothing of their configuration.

    A git that reads may not talk to other machines, nor write what they say into the user's clone.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.lower() in _PROXIES}
    return kept | {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        **({} if network_allowed else {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}),
        "LC_ALL": "C",
    }


def git_arguments(git_folder: Path | None, *arguments: str) -> list[str]:
    """Return the whole command line."""
    place = [] if git_folder is None else [f"--git-dir={git_folder}"]
    return ["git", *_SAFE, *place, *arguments]


class GitEndedError(RepositoryError):
    """A signal ended git: it says nothing of the repository."""


class Downloads:
    """Runs those git commands that talk to other machines, and ends them when the user wants to stop.

    They stay in the terminal's process group: ssh may have to ask for a passphrase.
    """

    def __init__(self) -> None:
        """Begin with none running."""
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def run(self, git_folder: Path | None, *arguments: str) -> None:
        """Run git to its end.

        Raises:
            RepositoryError: git failed.
            GitEndedError: `end` was called, or a signal ended it.
        """
        with (
            tempfile.TemporaryFile() as said,  # a pipe would be held open by whatever outlives git
            subprocess.Popen(
                git_arguments(git_folder, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=git_environment(network_allowed=True),
            ) as process,
        ):
            self._running.add(process)
            if self._ended:
                _end(process)
            process.wait()
            self._running.discard(process)
            said.seek(0)
            _check(process.returncode, said.read(), arguments)

    def end(self) -> None:
        """End what runs, and whatever is started later."""
        self._ended = True
        for process in tuple(self._running):
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End git and the programs that it has started: it does not end those itself."""
    waiting, found = [process.pid], []
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):
            waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        found.append(pid)
    process.terminate()
    for pid in found[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def run_git(git_folder: Path | None, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run git to its end and return its standard output.

    Raises:
        RepositoryError: git failed; the message is the end of what it said.
    """
    try:
        done = subprocess.run(
            git_arguments(git_folder, *arguments),
            input=stdin,
            capture_output=True,
            env=git_environment(),
            check=False,
            process_group=0,
        )
    except FileNotFoundError as error:
        message = "git is not installed: install it, for instance with: apt-get install git"
        raise RepositoryError(message) from error
    _check(done.returncode, done.stderr, arguments)
    return done.stdout


def _check(status: int, said: bytes, arguments: Sequence[str]) -> None:
    command = next((word for word in arguments if not word.startswith("-")), "")
    if status < 0:
        message = f"git {command} was ended by {signal.Signals(-status).name}: run the same command again"
        raise GitEndedError(message)
    if status != 0:
        lines = said.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        told = next((line for line in lines if line.startswith(("fatal: ", "error: "))), lines[-1])
        message = f"git {command} failed: {told}"
        raise RepositoryError(message)


def read_tree(git_folder: Path, commit: str) -> dict[str, tuple[int, str]]:
    """Return all files of a commit's tree: path to (mode, object id). Undecodable paths carry surrogates."""
    found = {}
    for line in run_git(git_folder, "ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0")[:-1]:
        facts, _, path = line.partition(b"\t")
        mode, _, oid = facts.split(b" ")
        found[path.decode("utf-8", "surrogateescape")] = (int(mode, 8), oid.decode())
    return found


class ObjectReader:
    """Reads objects through one ``git cat-file --batch``; use it as a context manager, from one thread."""

    def __init__(self, git_folder: Path) -> None:
        """Take the repository."""
        self._git_folder = git_folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the process."""
        self._process = subprocess.Popen(
            git_arguments(self._git_folder, "cat-file", "--batch"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=git_environment(),
            process_group=0,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        if self._process is not None:
            with self._process as process:
                process.kill()

    def read(self, name: str) -> bytes | None:
        """Return an object's content; None where it is missing. A name is an id, or ``COMMIT:PATH``."""
        found = self._read(name)
        return None if found is None else found[2]

    def require(self, name: str) -> bytes:
        """Return an object's content.

        Raises:
            RepositoryError: It is missing or damaged.
        """
        content = self.read(name)
        if content is None:
            message = f"the repository lacks the object {name}: fetch it whole, without --depth and --filter"
            raise RepositoryError(message)
        return content

    def read_all(self, oids: Sequence[str]) -> Iterator[tuple[str, str, bytes]]:
        """Yield (id, type, content) of each object.

        Raises:
            RepositoryError: One is missing or damaged.
        """
        for oid in oids:
            found = self._read(oid)
            if found is None:
                self.require(oid)
            else:
                yield found

    def sizes(self, oids: Sequence[str]) -> list[int]:
        """Return the sizes in bytes of objects, in order.

        Raises:
            RepositoryError: One is missing.
        """
        told = run_git(
            self._git_folder,
            "cat-file",
            "--batch-check=%(objectsize)",
            stdin="\n".join(oids).encode() + b"\n",
        ).split(b"\n")[:-1]
        try:
            return [int(size) for size in told]
        except ValueError as error:
            message = "the repository lacks objects: fetch it whole, without --depth and --filter"
            raise RepositoryError(message) from error

    def _read(self, name: str) -> tuple[str, str, bytes] | None:
        if "\n" in name:
            return None
        output, line = self._ask(name)
        words = line.split()
        if len(words) != 3 or not words[2].isdigit():  # noqa: PLR2004 -- id, type, size
            return None
        size = int(words[2])
        content = output.read(size)
        if len(content) != size or output.read(1) != b"\n":
            message = f"the repository's object {name} is damaged: run git fsck on it"
            raise RepositoryError(message)
        return words[0].decode(), words[1].decode(), content

    def _ask(self, name: str) -> tuple[IO[bytes], bytes]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            message = "an ObjectReader is used inside its with block"
            raise RuntimeError(message)
        try:
            process.stdin.write(name.encode("utf-8", "surrogateescape") + b"\n")
            process.stdin.flush()
        except BrokenPipeError as error:
            text = "git ended while objects were read: the repository is damaged; run git fsck on it"
            raise RepositoryError(text) from error
        line = process.stdout.readline()
        if not line:
            text = "git ended while objects were read: the repository is damaged; run git fsck on it"
            raise RepositoryError(text)
        return process.stdout, line
