"""One leased box of a foreign task: commands as its users, files placed by root, health awaited.

Our own commands are a few lines of ``/bin/sh`` with a fixed PATH, so that a program put in front on PATH is not asked.

Not covered: whoever was root in a box may have replaced its shell; what is judged in such a box is worth what its
maker trusts. Tasks whose verifier has a box of its own, or whose agent is no root, do not have that gap.
"""

import io
import shlex
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import anyio

from envfarm.errors import Attribution, SandboxStartError, VerifierError
from envfarm.foreign.harbor_plan import BoxPlan, NetworkPolicy
from envfarm.formats.harbor_config import Healthcheck
from envfarm.records.image import Image
from envfarm.sandbox.contract import (
    ExecResult,
    LeaseRequest,
    Privileges,
    ReachesServices,
    Sandbox,
    SwitchesUsers,
)
from envfarm.sandbox.services import ServiceGroup

Lease = Callable[[LeaseRequest], AbstractAsyncContextManager[Sandbox]]
ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NO_LIMIT_SECONDS = 86_400.0
_OWN_SECONDS = 120.0
_TOLD_BYTES = 1000
_PACKED = PurePosixPath("/tmp/.envfarm-files.tar")  # noqa: S108 -- inside the box
_SHELL = 'if [ -x /bin/bash ]; then exec /bin/bash -c "$1"; fi; exec /bin/sh -c "$1"'
"""Commands of Harbor tasks expect bash where the image has it."""
_ROOTS = frozenset({"root", "0", "0:0", "root:root"})
_KILL = """
kept=" 1 "
p=$$
while [ "$p" -gt 1 ]; do
    kept="$kept$p "
    q=1
    while read -r key value; do
        [ "$key" = PPid: ] && { q=$value; break; }
    done < "/proc/$p/status"
    p=$q
done
round=0
while [ $round -lt 3000 ]; do
    round=$((round + 1))
    found=
    for place in /proc/[0-9]*; do
        p=${place#/proc/}
        case $kept in *" $p "*) continue ;; esac
        state=
        while read -r key value; do
            [ "$key" = State: ] && { state=$value; break; }
        done 2>/dev/null < "$place/status"
        case $state in Z*|'') continue ;; esac
        kill -9 "$p" 2>/dev/null && found=1
    done
    [ -z "$found" ] && exit 0
done
exit 1
"""
"""Kills every process but init and who asks; shell built-ins only, so that no program of the box is trusted.

One that is killed may take a while to be gone, so there are many rounds: some seconds.
"""


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """An image that is there, and what is said in it.

    Attributes:
        image: As a provider takes it.
        working_directory: Where its commands run.
        user: Who runs them; empty for root.
    """

    image: Image
    working_directory: PurePosixPath
    user: str = ""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A leased box.

    Attributes:
        sandbox: It, as the image's own user.
        root: It, as root.
        working_directory: Where commands run.
        env: Variables of every command.
    """

    sandbox: Sandbox
    root: Sandbox
    working_directory: PurePosixPath
    env: Mapping[str, str] = field(default_factory=dict)

    async def acting(self, user: str | None) -> Sandbox:
        """Return the box as a user sees it; None for the image's own.

        Raises:
            VerifierError: The box has no such user.
            SandboxStartError: The provider cannot be other users.
        """
        if user is None:
            return self.sandbox
        if user in _ROOTS:
            return self.root
        if not isinstance(self.sandbox, SwitchesUsers):
            message = f"the task runs as {user!r}, and this sandbox cannot be other users"
            raise SandboxStartError(message, retryable=False)
        try:
            return await self.sandbox.as_user(user)
        except LookupError as error:
            message = f"the task runs as {user!r}, and its image has no such user"
            raise VerifierError(message, attribution=Attribution.TASK) from error

    async def run(
        self,
        command: str,
        *,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> ExecResult:
        """Run a command line of the task's, in the working directory.

        Args:
            command: For bash where the image has it, else for sh.
            user: Who runs it; None for the image's own user.
            env: Variables beside those of the box.
            timeout_seconds: Wall-clock bound; None for one day.
        """
        sandbox = await self.acting(user)
        return await sandbox.exec(
            ("/bin/sh", "-c", _SHELL, "sh", command),
            cwd=self.working_directory,
            env={**self.env, **(env or {})},
            timeout_seconds=NO_LIMIT_SECONDS if timeout_seconds is None else timeout_seconds,
        )

    @property
    def services(self) -> ReachesServices:
        """The services beside the box.

        Raises:
            SandboxStartError: The provider cannot reach them.
        """
        if not isinstance(self.sandbox, ReachesServices):
            message = "the task reaches into services, and this sandbox has none"
            raise SandboxStartError(message, retryable=False)
        return self.sandbox

    async def run_in_service(
        self, service: str, command: str, *, user: str | None, timeout_seconds: float
    ) -> ExecResult:
        """Run a command line of the task's in a service, where and as whom the service says.

        Raises:
            SandboxStartError: The service does not run.
        """
        argv = ("/bin/sh", "-c", _SHELL, "sh", command)
        return await self.services.run_in_service(service, argv, user=user, timeout_seconds=timeout_seconds)

    async def own(self, script: str, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run a script of ours as root and return what it printed.

        Raises:
            VerifierError: It failed.
        """
        result = await self.root.exec(
            ("/bin/sh", "-c", script, "sh", *arguments),
            cwd=PurePosixPath("/"),
            env={"PATH": ROOT_PATH},
            stdin=stdin,
            timeout_seconds=_OWN_SECONDS,
        )
        if result.exit_code != 0:
            told = result.stderr[-_TOLD_BYTES:].decode("utf-8", "replace").strip() or f"exit code {result.exit_code}"
            message = f"the box does not let itself be prepared for judging: {told}"
            raise VerifierError(message)
        return result.stdout

    async def place(self, files: Mapping[str, bytes], target: PurePosixPath, *, programs: Sequence[str] = ()) -> None:
        """Lay files over a folder of the box, as root's; what is there and not among them stays.

        Raises:
            VerifierError: The box cannot take them.
        """
        wanted = frozenset(programs)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path in sorted(files):
                member = tarfile.TarInfo(path)
                member.size = len(files[path])
                member.mode = 0o755 if path in wanted else 0o644
                archive.addfile(member, io.BytesIO(files[path]))
        await self.unpack(packed.getvalue(), target)

    async def unpack(self, archive: bytes, target: PurePosixPath) -> None:
        """Unpack an archive of ours over a folder of the box, which is made where it is missing.

        Raises:
            VerifierError: The box cannot take it; most often it has no tar.
        """
        try:
            await self.root.write_file(_PACKED, archive)
        except OSError as error:
            message = f"the box takes no files: {error.strerror}"
            raise VerifierError(message) from error
        script = 'mkdir -p -- "$1" && tar -xf "$2" -C "$1" --no-same-owner; status=$?; rm -f -- "$2"; exit $status'
        await self.own(script, str(target), str(_PACKED))

    async def kill_all(self) -> None:
        """Kill every process of the box but those that hold it.

        Raises:
            VerifierError: They come back faster than they are killed.
        """
        await self.own(_KILL)

    async def wait_until_healthy(self, check: Healthcheck, *, user: str | None = None) -> None:
        """Return once the check has succeeded; failures of the start period do not count.

        Raises:
            SandboxStartError: It failed as often in a row as it may.
        """
        start = time.monotonic()
        failures = 0
        while True:
            is_starting = time.monotonic() - start < check.start_period_sec
            result = await self.run(check.command, user=user, timeout_seconds=check.timeout_sec)
            if result.exit_code == 0:
                return
            failures += not is_starting
            if failures >= max(check.retries, 1):
                told = result.stderr[-_TOLD_BYTES:].decode("utf-8", "replace").strip()
                message = f"the health check failed {failures} times: {check.command}: {told}"
                raise SandboxStartError(message, attribution=Attribution.TASK)
            await anyio.sleep(check.start_interval_sec if is_starting else check.interval_sec)


@dataclass(frozen=True, kw_only=True)
class LooseFiles:
    """Files that are laid over a working directory.

    Attributes:
        files: Content by path relative to it.
        programs: Those with the executable bit.
    """

    files: Mapping[str, bytes] = field(repr=False)
    programs: tuple[str, ...] = ()


@asynccontextmanager
async def open_box(
    lease: Lease,
    found: FoundImage,
    plan: BoxPlan,
    policy: NetworkPolicy,
    env: Mapping[str, str],
    *,
    loose: LooseFiles | None = None,
    services: ServiceGroup | None = None,
) -> AsyncIterator[Box]:
    """Lease a box and give it once it is healthy; it ends with the block.

    Args:
        lease: Leases boxes.
        found: Its image.
        plan: What the task says of it.
        policy: What it can reach.
        env: The plan's variables, filled in.
        loose: Files for its working directory.
        services: What lives beside it.

    Raises:
        SandboxStartError: It cannot be had, or does not become healthy.
    """
    request = LeaseRequest(
        image=found.image,
        network=policy.network,
        allowed_hosts=policy.allowed_hosts,
        privileges=Privileges.ROOT,
        keeps_background=True,
        limits=plan.limits,
        services=services,
    )
    async with lease(request) as sandbox:
        if not isinstance(sandbox, SwitchesUsers):
            message = "tasks of other people need root in their box: use --sandbox docker"
            raise SandboxStartError(message, retryable=False)
        box = Box(
            sandbox=sandbox,
            root=await sandbox.as_user("0"),
            working_directory=plan.working_directory or found.working_directory,
            env=env,
        )
        if loose is not None:
            await box.place(loose.files, box.working_directory, programs=loose.programs)
        if plan.healthcheck is not None:
            await box.wait_until_healthy(plan.healthcheck)
        yield box


def quoted(path: PurePosixPath | str) -> str:
    """Return a path as a word for a shell."""
    return shlex.quote(str(path))
