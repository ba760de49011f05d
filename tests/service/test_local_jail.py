"""Boxes of the local jail under the kill: whoever dies, nothing stays behind and nobody else is harmed."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from envfarm.errors import BoundaryError, SandboxLostError, SandboxStartError
from envfarm.records.image import Image
from envfarm.sandbox.conformance_material import TEMPORARY
from envfarm.sandbox.contract import WORKSPACE, ExecResult, LeaseRequest, Sandbox, SandboxProvider
from envfarm.sandbox.local.cgroups import find_control_groups, make_control_groups
from envfarm.sandbox.local.lease import LocalSandbox
from envfarm.sandbox.local.leftovers import FOLDER_PREFIX, GROUP_PREFIX
from envfarm.sandbox.local.provider import open_local_provider
from envfarm.sandbox.owner_mark import owner_mark

GONE_SECONDS = 2.0
PATIENCE_SECONDS = 60.0
REQUEST = LeaseRequest(image=Image(image_id="killed"))
DRIVER = """
import sys
import anyio
from envfarm.records.image import Image
from envfarm.sandbox.contract import LeaseRequest
from envfarm.sandbox.local.provider import open_local_provider

async def box(provider, token):
    async with provider.lease(LeaseRequest(image=Image(image_id="killed"))) as sandbox:
        await sandbox.exec(["sh", "-c", f"(setsid sleep {token} &) ; sleep {token}"], timeout_seconds=600)

async def main(token, boxes):
    async with open_local_provider({}) as provider, anyio.create_task_group() as group:
        for _ in range(boxes):
            group.start_soon(box, provider, token)

anyio.run(main, sys.argv[1], int(sys.argv[2]))
"""


def new_token() -> str:
    """A number of seconds that no other process sleeps: the processes of a box are found by it."""
    return f"600.{uuid.uuid4().int % 10**15:015}"


def processes_with(text: str) -> dict[int, str]:
    """The processes that have the text in their command line, by their ids."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if text in line:
            found[int(entry.name)] = line
    return found


def sleepers(token: str) -> list[int]:
    return [pid for pid, line in processes_with(token).items() if line == f"sleep {token}"]


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has ended since it was listed: other tests start and end processes meanwhile


def keepers_and_holders(text: str) -> list[int]:
    """The helpers of a provider, by its folder."""
    return [pid for pid, line in processes_with(text).items() if "keeper.py" in line]


def holder_of(token: str) -> int:
    """The holder in whose box a command with the token runs."""
    helpers = keepers_and_holders("")
    pid = sleepers(token)[0]
    while pid not in helpers:
        pid = parent_of(pid)
        assert pid > 1
    return pid


def mounts_below(folder: Path) -> list[str]:
    """The places below the folder where any process of this machine sees something mounted."""
    places = []
    for file in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            places += [line.split()[4] for line in file.read_text().splitlines() if str(folder) in line]
        except OSError:
            continue
    return places


def own_groups() -> set[Path]:
    return set(find_control_groups(f"{GROUP_PREFIX}{owner_mark()}"))


def eventually(claim: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.03)
    return True


async def until(claim: Callable[[], bool]) -> None:
    assert await anyio.to_thread.run_sync(eventually, claim)


@dataclass(frozen=True)
class Driver:
    """A process that drives boxes, in a temporary folder of its own."""

    process: subprocess.Popen[bytes]
    token: str
    temporary: Path

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def helpers(self) -> list[int]:
        return keepers_and_holders(f"-{self.process.pid}-")

    def groups(self) -> list[Path]:
        return find_control_groups(f"{GROUP_PREFIX}*-{self.process.pid}-")

    def folders(self) -> list[Path]:
        return list(self.temporary.glob(f"{FOLDER_PREFIX}*-{self.process.pid}-*"))

    def traces(self) -> list[str]:
        """All that can be seen of a dead driver and its boxes on this machine."""
        processes = processes_with(str(self.temporary)) | processes_with(self.token)
        return [*processes.values(), *map(str, self.groups() + self.folders()), *mounts_below(self.temporary)]


@contextmanager
def running_driver(folder: Path, *, boxes: int) -> Iterator[Driver]:
    token = new_token()
    argv = [sys.executable, "-c", DRIVER, token, str(boxes)]
    with subprocess.Popen(argv, env=os.environ | {"TMPDIR": str(folder)}, stdin=subprocess.DEVNULL) as process:
        try:
            yield Driver(process, token, folder)
        finally:
            process.kill()


@contextmanager
def temporary_folder(folder: Path) -> Iterator[None]:
    """Make this process use another temporary folder."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def open_and_close(folder: Path) -> None:
    """Be the next driver that uses the temporary folder."""

    async def run() -> None:
        async with open_local_provider({}):
            pass

    with temporary_folder(folder):
        anyio.run(run)


def dead_process() -> int:
    """The id of a process that was."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def may_make_groups() -> bool:
    groups = make_control_groups(f"{GROUP_PREFIX}{owner_mark()}tried")
    groups.remove()
    return bool(groups.folders)


def test_two_seconds_after_the_driver_was_killed_nothing_of_it_is_left(tmp_path: Path) -> None:
    with running_driver(tmp_path, boxes=3) as driver:
        assert eventually(lambda: len(sleepers(driver.token)) == 6)
        assert eventually(lambda: len(driver.helpers()) == 6)  # the keeper, three holders, a jail's and a spare one
        assert len(driver.folders()) == 1
        assert mounts_below(tmp_path)
        assert bool(driver.groups()) == may_make_groups()
        driver.kill()
        assert eventually(lambda: not driver.traces(), GONE_SECONDS), driver.traces()


def test_killed_at_any_moment_of_its_start_a_driver_leaves_nothing_running(tmp_path: Path) -> None:
    with ExitStack() as stack:
        drivers = [stack.enter_context(running_driver(tmp_path, boxes=3)) for _ in range(4)]
        for number, driver in enumerate(drivers):
            assert eventually(lambda driver=driver: bool(driver.folders()))
            time.sleep(0.03 * number)
            driver.kill()
            assert eventually(lambda driver=driver: not driver.helpers(), GONE_SECONDS)
        assert eventually(lambda: not any(processes_with(driver.token) for driver in drivers), GONE_SECONDS)
        open_and_close(tmp_path)
        assert [trace for driver in drivers for trace in driver.traces()] == []


def test_what_is_left_when_all_were_killed_goes_with_the_next_driver(tmp_path: Path) -> None:
    with running_driver(tmp_path, boxes=2) as driver:
        assert eventually(lambda: len(sleepers(driver.token)) == 4)
        everybody = [driver.process.pid, *driver.helpers()]
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none sees another die
            for pid in everybody:
                os.kill(pid, number)
        driver.process.wait()
        assert eventually(lambda: not processes_with(driver.token) and not driver.helpers(), GONE_SECONDS)
        assert driver.folders()
        assert bool(driver.groups()) == may_make_groups()
        open_and_close(tmp_path)
        assert driver.traces() == []


def test_what_may_belong_to_a_living_driver_is_left_alone(tmp_path: Path) -> None:
    namespace, dead = owner_mark().split("-")[0], dead_process()
    elsewhere, machine = f"{namespace}0-{dead}-x", f"00000000{namespace[8:]}-{dead}-x"
    kept = {tmp_path / f"{FOLDER_PREFIX}{mark}" for mark in (elsewhere, machine, f"{namespace}-1-x", "x")}
    gone = tmp_path / f"{FOLDER_PREFIX}{namespace}-{dead}-x"
    for folder in (*kept, gone):
        (folder / "box").mkdir(parents=True)
    if os.geteuid() == 0:
        other_users = tmp_path / f"{FOLDER_PREFIX}{namespace}-{dead}-y"
        other_users.mkdir()
        os.chown(other_users, 65534, 65534)
        kept.add(other_users)
    with running_driver(tmp_path, boxes=1) as driver:
        assert eventually(lambda: len(sleepers(driver.token)) == 2)
        before = (set(sleepers(driver.token)), driver.folders(), driver.groups())
        groups = [
            make_control_groups(f"{GROUP_PREFIX}{mark}") for mark in (elsewhere, machine, f"{namespace}-{dead}-x")
        ]
        try:
            open_and_close(tmp_path)
            existing = [all(folder.is_dir() for folder in made.folders) for made in groups]
        finally:
            for made in groups:
                made.remove()
        assert existing == [True, True, not groups[2].folders]
        assert (set(sleepers(driver.token)), driver.folders(), driver.groups()) == before
        assert set(tmp_path.iterdir()) == {*kept, *driver.folders()}


def test_a_process_left_in_a_dead_drivers_group_is_ended(tmp_path: Path) -> None:
    if not may_make_groups():
        pytest.skip("this user may make no control groups: run as root, or in a scope with Delegate=yes")
    mark = f"{GROUP_PREFIX}{owner_mark().split('-')[0]}-{dead_process()}-x"
    groups = make_control_groups(mark)
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            for file in groups.join_files():
                Path(file).write_text(str(process.pid))
            open_and_close(tmp_path)
            assert process.wait(GONE_SECONDS) == -signal.SIGKILL
            assert not find_control_groups(mark)
        finally:
            process.kill()


def test_a_killed_holder_costs_its_own_lease_only() -> None:
    token = new_token()
    ends: dict[str, ExecResult | BoundaryError] = {}

    async def run(sandbox: Sandbox, name: str, *argv: str) -> None:
        try:
            ends[name] = await sandbox.exec(argv, timeout_seconds=60)
        except BoundaryError as error:
            ends[name] = error

    async def check() -> None:
        async with open_local_provider({}) as provider, provider.lease(REQUEST) as other:
            async with provider.lease(REQUEST) as victim, anyio.create_task_group() as group:
                assert isinstance(victim, LocalSandbox)
                groups = victim.groups.folders
                assert set(groups) <= own_groups()
                group.start_soon(run, victim, "victim", "sleep", token)
                group.start_soon(run, other, "other", "sh", "-c", "echo kept > file; sleep 1; cat file")
                await until(lambda: bool(sleepers(token)))
                os.kill(holder_of(token), signal.SIGKILL)
            with pytest.raises(SandboxLostError):
                await victim.exec(["true"], timeout_seconds=60)
            assert not processes_with(token)
            assert own_groups().isdisjoint(groups)
            async with provider.lease(REQUEST) as fresh:
                await run(fresh, "fresh", "echo", "again")
            await run(other, "later", "cat", "file")
        assert own_groups() == before

    before = own_groups()
    anyio.run(check)
    assert isinstance(ends.pop("victim"), SandboxLostError)
    told = {name: end.stdout for name, end in ends.items() if isinstance(end, ExecResult)}
    assert told == {"other": b"kept\n", "fresh": b"again\n", "later": b"kept\n"}


def test_commands_that_are_just_starting_die_with_their_holder() -> None:
    tokens = [new_token() for _ in range(8)]

    async def run(sandbox: Sandbox, token: str) -> None:
        with pytest.raises(SandboxLostError):
            await sandbox.exec(["sleep", token], timeout_seconds=GONE_SECONDS)

    async def check() -> None:
        async with open_local_provider({}) as provider:
            for number, first in enumerate(tokens):
                async with provider.lease(REQUEST) as sandbox, anyio.create_task_group() as group:
                    group.start_soon(run, sandbox, first)
                    await until(lambda first=first: bool(sleepers(first)))
                    holder = holder_of(first)
                    for _ in range(8):
                        group.start_soon(run, sandbox, first)
                    await anyio.sleep(0.002 * (number + 1))
                    os.kill(holder, signal.SIGKILL)
        assert own_groups() == before

    before = own_groups()
    anyio.run(check)
    assert eventually(lambda: not any(processes_with(token) for token in tokens), GONE_SECONDS)


def test_leases_after_the_keeper_was_killed_are_errors_at_once_but_for_the_jail_that_stood_ready() -> None:
    async def check() -> None:
        async with open_local_provider({}) as provider, provider.lease(REQUEST) as sandbox:
            (keeper,) = [pid for pid in keepers_and_holders("") if parent_of(pid) == os.getpid()]
            os.kill(keeper, signal.SIGKILL)
            with anyio.fail_after(GONE_SECONDS):
                with suppress(SandboxStartError):
                    async with provider.lease(REQUEST) as last:
                        assert (await last.exec(["echo", "last"], timeout_seconds=60)).stdout == b"last\n"
                for _ in range(2):
                    with pytest.raises(SandboxStartError):
                        async with provider.lease(REQUEST):
                            pytest.fail("a lease was given")
            assert (await sandbox.exec(["echo", "alive"], timeout_seconds=60)).stdout == b"alive\n"
        assert own_groups() == before

    before = own_groups()
    anyio.run(check)


def test_twenty_leases_at_once_share_nothing_and_are_cancelled_apart() -> None:
    numbers, cancelled = range(20), range(7, 13)
    tokens = [new_token() for _ in numbers]
    scopes: dict[int, anyio.CancelScope] = {}
    written: set[int] = set()
    seen: dict[int, bytes] = {}
    all_written, cancelled_gone = anyio.Event(), anyio.Event()

    async def one(provider: SandboxProvider, number: int) -> None:
        with anyio.CancelScope() as scopes[number]:
            async with provider.lease(REQUEST) as sandbox:
                await sandbox.write_file(WORKSPACE / f"file{number}", b"%d\n" % number)
                written.add(number)
                await all_written.wait()
                if number in cancelled:
                    await sandbox.exec(["sleep", tokens[number]], timeout_seconds=60)
                await cancelled_gone.wait()
                look = ["sh", "-c", "touch /tmp/file && ls -A /workspace /tmp && cat /workspace/*"]
                seen[number] = (await sandbox.exec(look, timeout_seconds=60)).stdout
        written.discard(number)

    async def check() -> None:
        async with open_local_provider({}) as provider, anyio.create_task_group() as group:
            for number in numbers:
                group.start_soon(one, provider, number)
            await until(lambda: len(written) == len(numbers))
            all_written.set()
            await until(lambda: all(sleepers(tokens[number]) for number in cancelled))
            for number in cancelled:
                scopes[number].cancel()
            await until(lambda: written.isdisjoint(cancelled))
            assert not any(processes_with(tokens[number]) for number in cancelled)
            cancelled_gone.set()
        assert own_groups() == before

    before = own_groups()
    anyio.run(check)
    expected = f"{TEMPORARY}:\nfile\n\n{WORKSPACE}:\nfile{{0}}\n{{0}}\n"
    assert seen == {number: expected.format(number).encode() for number in numbers if number not in cancelled}


def test_a_jail_shows_little_of_a_system() -> None:
    async def run() -> None:
        async with open_local_provider({}) as provider, provider.lease(REQUEST) as box:
            program = 'for f in /sys /var /run /boot /mnt /etc/shadow; do test -e "$f" && echo "$f"; done; true'
            assert (await box.exec(["sh", "-c", program], timeout_seconds=30)).stdout == b""
            processes = await box.exec(["sh", "-c", "ls -d /proc/[0-9]* | wc -l"], timeout_seconds=30)
            assert 3 <= int(processes.stdout) <= 5

    anyio.run(run)
