"""The driver's side of one lease: the channel to its holder, and the sandbox over the agent that the holder started."""

import json
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import anyio

from envfarm.errors import MissingToolError, SandboxLostError, SandboxStartError
from envfarm.sandbox.client.connection import AgentClient
from envfarm.sandbox.client.sandbox import MACHINE_OUT_OF_MEMORY, AgentSandbox, BoxSettings
from envfarm.sandbox.contract import WORKSPACE, ExecResult
from envfarm.sandbox.local.cgroups import ControlGroups
from envfarm.sandbox.local.memory_kills import MemoryKills

_MAXIMUM_MESSAGE = 1 << 20
_LAST_WORDS_SECONDS = 2.0
NAMESPACES_MENDING = (
    "allow them with: sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=65536 "
    "kernel.apparmor_restrict_unprivileged_userns=0 (those that exist); a container needs "
    "--security-opt seccomp=unconfined --security-opt systempaths=unconfined"
)


class HolderChannel:
    """What a holder says: that its box is ready, why it is not, and, by the end of the channel, that it has ended."""

    def __init__(self, channel: socket.socket) -> None:
        """Take the driver's end of the channel, which does not block."""
        self._channel = channel
        self.ready = anyio.Event()
        self.gone = anyio.Event()
        """Set once the holder has ended all that it owned, or has ended itself."""
        self._filled = anyio.Event()
        self._said: dict[str, object] = {}

    async def listen(self) -> None:
        """Take what the holder says until it has ended."""
        while True:
            try:
                data = self._channel.recv(_MAXIMUM_MESSAGE)
            except BlockingIOError:
                await anyio.wait_readable(self._channel)
                continue
            except OSError:
                data = b""
            if not data:
                break
            self._said.update(json.loads(data))
            self.ready.set()
            if not self._said.keys().isdisjoint({"filled", "error"}):
                self._filled.set()
        self.ready.set()
        self._filled.set()
        self.gone.set()

    def raise_failure(self) -> None:
        """Raise what keeps the box from being made, where something does.

        Raises:
            SandboxStartError: The holder could not make it.
            MissingToolError: This machine forbids what it needs.
        """
        error = self._said.get("error")
        if self._said.get("forbidden"):
            message = f"user namespaces are forbidden here ({error}): {NAMESPACES_MENDING}"
            raise MissingToolError(message)
        if error is not None or self.gone.is_set():
            message = f"a local sandbox could not be made: {error or 'its process ended'}"
            raise SandboxStartError(message)

    async def ask(self, wish: Mapping[str, object], seconds: float) -> None:
        """Have the holder fill the box.

        Raises:
            SandboxStartError: It could not, or said nothing.
        """
        try:
            self._channel.send(json.dumps(wish).encode())
        except OSError as error:
            self.raise_failure()
            message = f"the holder of a local sandbox is gone: {error}"
            raise SandboxStartError(message) from error
        with anyio.move_on_after(seconds):
            await self._filled.wait()
        self.raise_failure()
        if not self._filled.is_set():
            message = f"a local sandbox was not filled within {seconds:.0f} s"
            raise SandboxStartError(message)

    async def explain(self, error: SandboxLostError) -> SandboxLostError:
        """Return the loss of the box with what the holder says of it, if it does so soon."""
        with anyio.move_on_after(_LAST_WORDS_SECONDS):
            await self.gone.wait()
        told = self._said.get("ended")
        return SandboxLostError(f"{error} ({told})") if told else error


class LocalSandbox(AgentSandbox):
    """One leased jail."""

    def __init__(
        self, client: AgentClient, settings: BoxSettings, channel: HolderChannel, groups: ControlGroups
    ) -> None:
        """Take the agent, what all commands share, the holder's channel, and the lease's control groups."""
        super().__init__(client, settings, channel.explain)
        self.groups = groups
        self._memory = MemoryKills(groups.memory)

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
        """Run one command to its end; see the contract."""
        own, others = self._memory.look()
        result = await super().exec(
            argv,
            cwd=cwd,
            env=env,
            stdin=stdin,
            timeout_seconds=timeout_seconds,
            report_limit_bytes=report_limit_bytes,
        )
        own_now, others_now = self._memory.look()
        if own_now > own:
            return replace(result, out_of_memory=True)
        was_bound = result.signal != signal.SIGKILL or result.out_of_memory or result.timed_out
        if others_now > others and (self._memory.is_exact or not was_bound):
            raise SandboxLostError(MACHINE_OUT_OF_MEMORY)
        return result
