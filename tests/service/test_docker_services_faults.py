"""Services under the kill: whoever dies, and whenever, nothing of them stays behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

import anyio
import pytest

from envfarm.errors import SandboxLostError, SandboxStartError
from envfarm.records.image import Image
from envfarm.sandbox.contract import LeaseRequest, Privileges, ReachesServices
from envfarm.sandbox.docker.base_image import BASE_TAG
from envfarm.sandbox.docker.container import OWNER_LABEL
from envfarm.sandbox.docker.engine import open_engine
from envfarm.sandbox.docker.engine_groups import list_networks, list_volumes
from envfarm.sandbox.docker.provider import FOLDER_PREFIX, folders_place, open_docker_provider
from envfarm.sandbox.services import Readiness, Service, ServiceCheck, ServiceGroup, VolumeMount

ROOT = PurePosixPath("/")
PATIENCE_SECONDS = 30.0
DRIVER = """
import sys, threading, time
import anyio
from envfarm.sandbox.client.connection import AgentClient
from envfarm.sandbox.docker import service_group
from envfarm.sandbox.docker.engine import Engine
from envfarm.sandbox.docker.provider import open_docker_provider
sys.path.insert(0, sys.argv[2])
from test_docker_services_faults import request_of

phase = sys.argv[1]

def stop(name):
    if phase == name:
        print("there", flush=True)
        time.sleep(600)

def after(name, place, method):
    inner = getattr(place, method)
    def outer(*arguments, **named):
        result = inner(*arguments, **named)
        stop(name)
        return result
    setattr(place, method, outer)

inner = service_group.run_compose
async def run_compose(*arguments, **named):
    stop("before they are made")
    if phase == "made":
        threading.Timer(1.0, print, ("there",), {"flush": True}).start()
    return await inner(*arguments, **named)
service_group.run_compose = run_compose

after("network", service_group, "create_network")
after("volume", service_group, "create_volume")
after("box made", Engine, "create_container")
after("box started", Engine, "start_container")
after("ending", service_group, "remove_all")

async def main():
    async with open_docker_provider({}) as provider:
        async with provider.lease(request_of(is_stuck=phase == "made")) as sandbox:
            stop("leased")

anyio.run(main)
"""
PHASES = ("network", "volume", "before they are made", "made", "box made", "box started", "leased", "ending")


def request_of(*, is_stuck: bool = False, seconds: float = 60.0) -> LeaseRequest:
    """Ask for a box with two services, of which one waits for the other; for ever where it is stuck."""
    check = ServiceCheck(test=("CMD", "sleep", "600") if is_stuck else ("CMD", "true"), interval_seconds=0.2)
    db = Service(
        name="db",
        image=BASE_TAG,
        command=("sleep", "600"),
        networks={"default": ()},
        check=check,
        volumes=(VolumeMount(volume="data", target="/data"), VolumeMount(volume="", target="/own")),
    )
    web = Service(
        name="web",
        image=BASE_TAG,
        command=("sleep", "600"),
        networks={"default": ()},
        waits_for={"db": Readiness.HEALTHY},
    )
    group = ServiceGroup(
        main=Service(name="main", networks={"default": ()}),
        others=(db, web),
        networks={"default": False},
        volumes=("data",),
        start_seconds=seconds,
    )
    image = Image(image_id="x", reference=BASE_TAG)
    return LeaseRequest(image=image, privileges=Privileges.ROOT, keeps_background=True, services=group)


@pytest.fixture(autouse=True)
def _compose(compose_command: str) -> None:
    """Skip where there is no compose command."""


def eventually(claim: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def at_engine(pid: int) -> list[str]:
    """Containers, networks and volumes of a driver."""
    with open_engine() as engine:
        kinds = (
            engine.list_containers(OWNER_LABEL),
            list_networks(engine, OWNER_LABEL),
            list_volumes(engine, OWNER_LABEL),
        )
        return [name for kind in kinds for name, labels in kind.items() if f"-{pid}-" in labels[OWNER_LABEL]]


def processes_of(pid: int) -> list[str]:
    """Processes that have a driver's folder among their words."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found += [words] if f"-{pid}-" in words else []
    return found


def here(pid: int) -> list[str]:
    """Folders and processes of a driver."""
    return [str(folder) for folder in folders_place().glob(f"{FOLDER_PREFIX}*-{pid}-*")] + processes_of(pid)


@contextmanager
def driver_at(phase: str) -> Iterator[subprocess.Popen[bytes]]:
    """Give a driver that is at a phase of a lease, and has not been waited for."""
    words = [sys.executable, "-c", DRIVER, phase, str(Path(__file__).parent)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"there\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_driver_leaves_no_service_even_if_no_other_driver_comes(docker_base: str, phase: str) -> None:
    with driver_at(phase) as process:
        assert at_engine(process.pid) or phase == "ending", "the driver was killed too early"
        assert here(process.pid)
    assert eventually(lambda: at_engine(process.pid) == []), at_engine(process.pid)
    assert eventually(lambda: processes_of(process.pid) == []), processes_of(process.pid)

    anyio.run(next_driver)
    assert eventually(lambda: here(process.pid) == []), here(process.pid)


async def next_driver() -> None:
    async with open_docker_provider({}):
        pass


@pytest.mark.parametrize("phase", ["network", "made", "leased"])
def test_the_next_driver_removes_what_is_left_where_the_minder_died_as_well(docker_base: str, phase: str) -> None:
    with driver_at(phase) as process:
        (minder,) = [int(line) for line in children_of(process.pid) if b"group_minder" in words_of(line)]
        assert at_engine(process.pid)  # later any driver that begins may have removed it
        os.kill(minder, signal.SIGKILL)
        process.kill()
        process.wait()
        time.sleep(0.5)
        assert processes_of(process.pid) == []  # the kernel ends the compose command
    anyio.run(next_driver)
    assert eventually(lambda: at_engine(process.pid) == []), at_engine(process.pid)
    assert eventually(lambda: here(process.pid) == []), here(process.pid)


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def words_of(pid: str) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_box_is_given_when_what_main_waits_for_has_ended(docker_base: str) -> None:
    request = request_of()
    assert request.services is not None
    setup = Service(
        name="setup",
        image=BASE_TAG,
        command=("sh", "-c", "sleep 2; echo done > /data/setup"),
        networks={"default": ()},
        volumes=(VolumeMount(volume="data", target="/data"),),
    )
    main = replace(
        request.services.main,
        waits_for={"setup": Readiness.ENDED},
        volumes=(VolumeMount(volume="data", target="/data"),),
    )
    group = replace(request.services, main=main, others=(*request.services.others, setup))

    async def run() -> None:
        async with open_docker_provider({}) as provider, provider.lease(replace(request, services=group)) as box:
            done = await box.exec(["cat", "/data/setup"], timeout_seconds=30)
            assert (done.exit_code, done.stdout) == (0, b"done\n")

    anyio.run(run)


def test_services_end_with_their_lease_and_another_ones_live_on(docker_base: str) -> None:
    async def run() -> None:
        async with open_docker_provider({"warm_boxes": 2}) as provider:
            async with provider.lease(request_of()) as first:
                async with provider.lease(request_of()) as second:
                    both = len(at_engine(os.getpid()))
                    assert isinstance(first, ReachesServices)
                    assert isinstance(second, ReachesServices)
                    done = await first.run_in_service("db", ["touch", "/data/mine"], timeout_seconds=30)
                    assert done.exit_code == 0
                    done = await second.run_in_service("db", ["ls", "-A", "/data"], timeout_seconds=30)
                    assert (done.exit_code, done.stdout) == (0, b"")
                assert 2 * len(at_engine(os.getpid())) == both  # no box stands ready for such a request
                assert (await first.exec(["getent", "hosts", "db"], cwd=ROOT, timeout_seconds=30)).exit_code == 0
            assert at_engine(os.getpid()) == []
        assert here(os.getpid()) == []

    anyio.run(run)


def test_a_start_that_is_cancelled_or_too_slow_leaves_nothing(docker_base: str) -> None:
    async def run() -> None:
        async with open_docker_provider({}) as provider:
            for seconds in (0.3, 0.8, 1.5, 2.5):
                with anyio.move_on_after(seconds) as scope:
                    async with provider.lease(request_of(is_stuck=True)):
                        pass
                assert scope.cancelled_caught
                assert at_engine(os.getpid()) == []
            with pytest.raises(SandboxStartError, match=r"not ready within 3 s: the service db"):
                async with provider.lease(request_of(is_stuck=True, seconds=3.0)):
                    pass
            assert at_engine(os.getpid()) == []
        assert here(os.getpid()) == []

    anyio.run(run)


def test_what_reaches_into_services_tells_what_is_not_there(docker_base: str) -> None:
    async def run() -> None:
        async with open_docker_provider({}) as provider, provider.lease(request_of()) as box:
            assert isinstance(box, ReachesServices)
            said = await box.run_in_service("db", ["sh", "-c", "id -un; echo no >&2; exit 7"], timeout_seconds=30)
            assert (said.exit_code, said.stdout, said.stderr) == (7, b"root\n", b"no\n")
            flood = ["sh", "-c", "head -c 9000000 /dev/zero; echo >&2"]
            told = await box.run_in_service("db", flood, user="user", timeout_seconds=60)
            assert (told.exit_code, len(told.stdout)) == (
                0,
                LeaseRequest(image=Image(image_id="x")).limits.output_bytes,
            )
            slow = await box.run_in_service("db", ["sleep", "60"], timeout_seconds=0.5)
            assert (slow.timed_out, slow.exit_code) == (True, None)
            assert await box.read_from_service("db", PurePosixPath("/no/such")) is None
            archive = await box.read_from_service("db", PurePosixPath("/etc/passwd"))
            assert archive is not None
            assert b"root:x:0:0" in archive
            with pytest.raises(ValueError, match="more than 100 bytes"):
                await box.read_from_service("db", PurePosixPath("/etc"), limit_bytes=100)
            with pytest.raises(SandboxLostError, match="nobody"):
                await box.run_in_service("nobody", ["true"], timeout_seconds=5)
        assert at_engine(os.getpid()) == []

    anyio.run(run)


def test_a_box_without_a_container_engine_has_no_services() -> None:
    from envfarm.sandbox.local.provider import open_local_provider

    async def run() -> None:
        async with open_local_provider({}) as provider:
            request = request_of()
            with pytest.raises(SandboxStartError, match="docker"):
                async with provider.lease(LeaseRequest(image=Image(image_id="x"), services=request.services)):
                    pass

    anyio.run(run)
