"""Boxes that watch a verifier, or fail it: what `conformance` puts between a verifier and a real provider."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import anyio

from envfarm.errors import SandboxLostError
from envfarm.sandbox.contract import (
    MEBIBYTE,
    WORKSPACE,
    ExecResult,
    LeaseRequest,
    Sandbox,
    SandboxProvider,
)


@dataclass
class Watch:
    """What a verifier did with its boxes, and what is to go wrong.

    Attributes:
        submission: Part of the submission's bytes, by which its arrival in a box is seen.
        hidden: Content of hidden files by path in the workspace.
        lost_at: The command, counted over all boxes, at which the box is lost; None for never.
        stalled_at: The command that never returns; None for none.
        requests: Every lease that was asked for.
        open: Boxes that are leased now.
        commands: Commands that were run.
        arrived: Boxes in which the submission is.
        early: Hidden paths that were in a box before the submission was.
        stalled: Set once a command stalls.
    """

    submission: bytes = b""
    hidden: Mapping[str, bytes] = field(default_factory=dict)
    lost_at: int | None = None
    stalled_at: int | None = None
    requests: list[LeaseRequest] = field(default_factory=list)
    open: int = 0
    commands: int = 0
    arrived: int = 0
    early: list[str] = field(default_factory=list)
    stalled: anyio.Event = field(default_factory=anyio.Event)


class WatchedProvider:
    """A provider whose boxes tell a `Watch` what is done with them."""

    def __init__(self, provider: SandboxProvider, watch: Watch) -> None:
        """Take the real provider and what is told."""
        self._provider = provider
        self._watch = watch

    @property
    def name(self) -> str:
        """The real provider's name."""
        return self._provider.name

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Sandbox]:
        """Give a watched box."""
        self._watch.requests.append(request)
        async with self._provider.lease(request) as sandbox:
            self._watch.open += 1
            try:
                yield WatchedSandbox(sandbox, self._watch)
            finally:
                self._watch.open -= 1


class WatchedSandbox:
    """A box that tells a `Watch` what is done with it; see the sandbox contract for its methods."""

    def __init__(self, sandbox: Sandbox, watch: Watch) -> None:
        """Take the real box and what is told."""
        self._sandbox = sandbox
        self._watch = watch
        self._arrived = False

    async def exec(
        self,
        argv: Sequence[str],
        *,
        cwd: PurePosixPath = WORKSPACE,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout_seconds: float,
        report_limit_bytes: int = 0,
    ) -> ExecResult:
        """Run one command, unless it is the one at which the box is lost or stalls."""
        self._watch.commands += 1
        if self._watch.commands == self._watch.lost_at:
            message = "the box was lost on purpose"
            raise SandboxLostError(message)
        if self._watch.commands == self._watch.stalled_at:
            self._watch.stalled.set()
            await anyio.sleep_forever()
        await self._look_for_hidden_files()
        result = await self._sandbox.exec(
            argv,
            cwd=cwd,
            env=env,
            stdin=stdin,
            timeout_seconds=timeout_seconds,
            report_limit_bytes=report_limit_bytes,
        )
        self._note_arrival(stdin)
        return result

    async def read_file(self, path: PurePosixPath, *, limit_bytes: int = 64 * MEBIBYTE) -> bytes:
        """Return a file's content."""
        return await self._sandbox.read_file(path, limit_bytes=limit_bytes)

    async def write_file(self, path: PurePosixPath, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file."""
        await self._sandbox.write_file(path, content, mode=mode)
        await self._look_for_hidden_files()
        self._note_arrival(content)

    def _note_arrival(self, data: bytes) -> None:
        if not self._arrived and self._watch.submission and self._watch.submission in data:
            self._arrived = True
            self._watch.arrived += 1

    async def _look_for_hidden_files(self) -> None:
        if self._arrived:
            return
        for path, content in self._watch.hidden.items():
            try:
                found = await self._sandbox.read_file(WORKSPACE / path)
            except (FileNotFoundError, ValueError):
                continue
            if found == content:
                self._watch.early.append(path)
