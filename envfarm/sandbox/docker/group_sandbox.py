"""A box with services beside it, as its commands see it."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from envfarm.errors import SandboxStartError
from envfarm.sandbox.client.connection import AgentClient
from envfarm.sandbox.client.sandbox import AgentSandbox, BoxSettings, Explain
from envfarm.sandbox.contract import MEBIBYTE, ExecResult
from envfarm.sandbox.docker.service_group import LiveGroup
from envfarm.sandbox.services import Service

_START_SECONDS = 60.0
_BEHIND = '"$@" </dev/null >/dev/null 2>&1 &'


class GroupSandbox(AgentSandbox):
    """An `AgentSandbox` that reaches services; see `ReachesServices`."""

    def __init__(self, client: AgentClient, settings: BoxSettings, explain: Explain, live: LiveGroup) -> None:
        """Take what an `AgentSandbox` does, and the group."""
        super().__init__(client, settings, explain)
        self._live = live
        self._explain_loss = explain

    async def as_user(self, user: str) -> "GroupSandbox":
        """Return the same box as another of its users; see `SwitchesUsers`."""
        acting = await super().as_user(user)
        return GroupSandbox(self.client, acting.settings, self._explain_loss, self._live)

    async def run_in_service(
        self, service: str, argv: Sequence[str], *, user: str | None = None, timeout_seconds: float
    ) -> ExecResult:
        """Run a command in a service; see `ReachesServices`."""
        return await self._live.run_inside(
            service, argv, user=user, timeout_seconds=timeout_seconds, limit_bytes=self.settings.limits.output_bytes
        )

    async def read_from_service(
        self, service: str, path: PurePosixPath, *, limit_bytes: int = 64 * MEBIBYTE
    ) -> bytes | None:
        """Return files of a service; see `ReachesServices`."""
        return await self._live.archive_of(service, path, limit_bytes)


async def start_command(sandbox: GroupSandbox, main: Service) -> None:
    """Have the command of `main` run beside what is done in the box; its end is not the box's.

    Raises:
        SandboxStartError: It cannot be started.
    """
    words = (*(main.entrypoint or ()), *(main.command or ()))
    if not words:
        return
    acting = sandbox if main.user is None else await sandbox.as_user(main.user)
    folder = PurePosixPath(main.working_directory or "/")
    done = await acting.exec(("/bin/sh", "-c", _BEHIND, "sh", *words), cwd=folder, timeout_seconds=_START_SECONDS)
    if done.exit_code != 0:
        told = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.exit_code}"
        message = f"the command of the service {main.name} could not be started: {told}"
        raise SandboxStartError(message, retryable=False)
