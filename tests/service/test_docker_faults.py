"""Containers under the kill: whoever dies, it is told as what it is, and nothing stays behind."""

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

import anyio
import pytest

from envfarm.errors import (
    BoundaryError,
    ContainerImageMissingError,
    ContainerImagePullError,
    EngineDiskFullError,
    EngineUnreachableError,
    MissingToolError,
    SandboxLostError,
    SandboxStartError,
    SettingsError,
)
from envfarm.records.image import Image
from envfarm.sandbox.contract import MEBIBYTE, LeaseRequest, Limits, Privileges, SwitchesUsers
from envfarm.sandbox.docker.container import AGENT, OWNER_LABEL
from envfarm.sandbox.docker.engine import Engine, open_engine
from envfarm.sandbox.docker.provider import FOLDER_PREFIX, DockerProvider, folders_place, open_docker_provider
from envfarm.sandbox.owner_mark import is_dead

REQUEST = LeaseRequest(image=Image(image_id="killed"))
PATIENCE_SECONDS = 60.0
DRIVER = """
import sys, time
import anyio
from envfarm.records.image import Image
from envfarm.sandbox.client.connection import AgentClient
from envfarm.sandbox.contract import LeaseRequest
from envfarm.sandbox.docker import box
from envfarm.sandbox.docker.engine import Engine
from envfarm.sandbox.docker.provider import open_docker_provider

phase = sys.argv[1]

def stop(name):
    if phase == name:
        print("there", flush=True)
        time.sleep(600)

def before(name, kind, method):
    inner = getattr(kind, method)
    def outer(*arguments, **named):
        stop(name)
        return inner(*arguments, **named)
    setattr(kind, method, outer)

def after(name, kind, method):
    inner = getattr(kind, method)
    def outer(*arguments, **named):
        result = inner(*arguments, **named)
        stop(name)
        return result
    setattr(kind, method, outer)

before("before it is made", Engine, "create_container")
after("made", Engine, "create_container")
after("started", Engine, "start_container")
before("ending", AgentClient, "end")

async def main():
    async with open_docker_provider({"warm_boxes": 1 if phase == "warm" else 0}) as provider:
        async with provider.lease(LeaseRequest(image=Image(image_id="killed"))) as sandbox:
            await sandbox.exec(["sh", "-c", "(setsid sleep 600 &) ; echo up"], timeout_seconds=60)
            if phase == "warm":
                while len([held for held in next(iter(provider.pool._ready.values())) if held.made.is_set()]) < 1:
                    await anyio.sleep(0.05)
            stop("leased")
            stop("warm")

anyio.run(main)
"""
PHASES = ("before it is made", "made", "started", "leased", "warm", "ending")


def eventually(claim: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def left_by(pid: int) -> list[str]:
    """Containers, folders and agents that a driver left."""
    with open_engine() as engine:
        boxes = [name for name, told in engine.list_containers(OWNER_LABEL).items() if f"-{pid}-" in told[OWNER_LABEL]]
    folders = [str(folder) for folder in folders_place().glob(f"{FOLDER_PREFIX}*-{pid}-*")]
    return boxes + folders


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_driver_leaves_nothing_that_the_next_one_does_not_remove(docker_base: str, phase: str) -> None:
    with subprocess.Popen([sys.executable, "-c", DRIVER, phase], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        process.kill()
    assert left_by(process.pid), "the driver was killed too late or too early"

    async def next_driver() -> None:
        async with open_docker_provider({}):
            pass

    anyio.run(next_driver)
    assert eventually(lambda: left_by(process.pid) == []), left_by(process.pid)


def test_what_a_living_driver_has_is_left_alone(docker_base: str) -> None:
    async def run() -> None:
        async with open_docker_provider({}) as first, first.lease(REQUEST) as box:
            async with open_docker_provider({}), open_docker_provider({}):
                pass
            assert (await box.exec(["echo", "on"], timeout_seconds=30)).stdout == b"on\n"

    anyio.run(run)


def container_of(provider: DockerProvider) -> str:
    with open_engine() as engine:
        found = engine.list_containers(OWNER_LABEL)
    (mine,) = [name for name, told in found.items() if f"-{os.getpid()}-" in told[OWNER_LABEL]]
    return mine


def first_process(container: str) -> int:
    import docker

    api = docker.APIClient()
    try:
        return int(api.inspect_container(container)["State"]["Pid"])
    finally:
        api.close()


def kill_container(container: str) -> None:
    import docker

    api = docker.APIClient()
    try:
        api.kill(container)
    finally:
        api.close()


@pytest.mark.parametrize("by", ["engine", "host"])
def test_a_box_that_is_killed_from_outside_is_lost_and_says_why(docker_base: str, by: str) -> None:
    if by == "host" and os.geteuid() != 0:
        pytest.skip("only root kills the first process of a container: run as root")

    async def run() -> None:
        async with open_docker_provider({}) as provider, provider.lease(REQUEST) as box:
            container = container_of(provider)

            async def kill() -> None:
                await anyio.sleep(0.3)
                if by == "engine":
                    await anyio.to_thread.run_sync(kill_container, container)
                else:
                    os.kill(first_process(container), signal.SIGKILL)

            async with anyio.create_task_group() as group:
                group.start_soon(kill)
                with pytest.raises(SandboxLostError) as lost:
                    await box.exec(["sleep", "60"], timeout_seconds=60)
            assert "137" in str(lost.value)
            assert ("killed from outside" in str(lost.value)) == (by == "engine")
            with pytest.raises(SandboxLostError):
                await box.read_file(PurePosixPath("/etc/passwd"))
            async with provider.lease(REQUEST) as another:
                assert (await another.exec(["true"], timeout_seconds=30)).exit_code == 0
        assert left_by(os.getpid()) == []

    anyio.run(run)


def test_exhausted_memory_is_the_command_s_and_the_box_lives(docker_base: str) -> None:
    request = replace(REQUEST, limits=Limits(memory_bytes=96 * MEBIBYTE))
    fill = "x = open('/dev/shm/fill', 'wb')\nwhile True: x.write(bytes(1 << 20))"

    async def run() -> None:
        async with open_docker_provider({}) as provider, provider.lease(request) as box:
            filled = await box.exec(["python3", "-c", fill], timeout_seconds=60)
            assert filled.signal == signal.SIGKILL
            assert filled.out_of_memory
            assert (await box.exec(["rm", "/dev/shm/fill"], timeout_seconds=60)).exit_code == 0  # noqa: S108 -- inside
            assert (await box.exec(["echo", "on"], timeout_seconds=60)).stdout == b"on\n"

    anyio.run(run)


def test_a_warm_box_is_fresh_fast_and_used_once(docker_base: str) -> None:
    async def run() -> None:
        async with open_docker_provider({}) as provider:
            await provider.prepare(REQUEST, 2)
            seconds = []
            for _ in range(2):
                started = time.monotonic()
                async with provider.lease(REQUEST) as box:
                    seen = await box.exec(["sh", "-c", "ls -A /tmp . ~; echo left > /tmp/left"], timeout_seconds=30)
                    assert seen.stdout == b".:\n\n/home/user:\n\n/tmp:\n"
                seconds.append(time.monotonic() - started)
                await provider.prepare(REQUEST, 2)
            started = time.monotonic()
            async with provider.lease(replace(REQUEST, limits=Limits(process_count=100))):
                pass
            assert min(seconds) < (time.monotonic() - started) / 2
        assert left_by(os.getpid()) == []

    anyio.run(run)


def test_a_warm_box_that_died_is_not_given(docker_base: str) -> None:
    async def run() -> None:
        async with open_docker_provider({}) as provider:
            await provider.prepare(REQUEST, 1)
            await anyio.to_thread.run_sync(kill_container, container_of(provider))
            await anyio.sleep(0.5)
            async with provider.lease(REQUEST) as box:
                assert (await box.exec(["true"], timeout_seconds=30)).exit_code == 0

    anyio.run(run)


def test_warm_boxes_have_a_bound_in_all(docker_base: str) -> None:
    async def run() -> None:
        async with open_docker_provider({"warm_boxes": 2}) as provider:
            for count in (100, 101, 102):
                async with provider.lease(replace(REQUEST, limits=Limits(process_count=count))):
                    pass
            assert sum(map(len, provider.pool._ready.values())) == 2
        assert left_by(os.getpid()) == []

    anyio.run(run)


def test_a_foreign_image_has_its_root_and_its_users(docker_base: str) -> None:
    request = replace(REQUEST, image=Image(image_id="x", reference=docker_base), privileges=Privileges.ROOT)

    async def run() -> None:
        async with open_docker_provider({}) as provider, provider.lease(request) as box:
            tried = "id -u; touch /usr/made && chown user /usr/made && setpriv --reuid user --clear-groups id -u"
            done = await box.exec(["sh", "-c", tried], cwd=PurePosixPath("/"), timeout_seconds=30)
            assert done.stdout == b"0\n1000\n", done.stderr
            assert isinstance(box, SwitchesUsers)
            for name in ("user", "1000", "1000:1000"):
                ordinary = await box.as_user(name)
                tried = "id -u; echo $HOME; touch /usr/x || echo > /tmp/by_user"
                done = await ordinary.exec(["sh", "-c", tried], cwd=PurePosixPath("/"), timeout_seconds=30)
                assert done.stdout == b"1000\n/home/user\n", done.stderr
            assert (await ordinary.read_file(PurePosixPath("/tmp/by_user"))) == b"\n"  # noqa: S108 -- inside
            with pytest.raises(FileNotFoundError):
                await ordinary.read_file(PurePosixPath("/etc/shadow"))
            with pytest.raises(LookupError):
                await box.as_user("nobody-of-that-name")

    anyio.run(run)


async def lease_once(request: LeaseRequest, options: Mapping[str, object] | None = None) -> None:
    async with open_docker_provider(options or {}) as provider, provider.lease(request):
        pass


def test_what_cannot_be_is_told_by_name(docker_base: str) -> None:
    cases: list[tuple[LeaseRequest, type[BoundaryError], str]] = [
        (
            replace(REQUEST, image=Image(image_id="x", reference="no-such-image:1")),
            ContainerImageMissingError,
            "no-such",
        ),
        (replace(REQUEST, limits=Limits(memory_bytes=1)), SandboxStartError, "emory"),
    ]
    for request, kind, words in cases:
        with pytest.raises(kind, match=words):
            anyio.run(lease_once, request)
    assert left_by(os.getpid()) == []
    for options in ({"base": ""}, {"warm_boxes": -1}, {"unknown": 1}):
        with pytest.raises(SettingsError, match="docker sandbox"):
            anyio.run(lease_once, REQUEST, options)


def test_a_registry_that_is_not_reached_is_told(docker_base: str) -> None:
    with pytest.raises(ContainerImagePullError):
        anyio.run(lease_once, REQUEST, {"base": "localhost:1/nothing:1"})


def test_no_daemon_and_no_permission_say_what_mends_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    with pytest.raises(MissingToolError, match="make docker"):
        anyio.run(lease_once, REQUEST)
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(MissingToolError, match="another machine"):
        anyio.run(lease_once, REQUEST)


def test_a_user_who_may_not_use_the_daemon_is_told_how_he_may(docker_base: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("another user is needed: run as root")
    program = "from envfarm.sandbox.docker.engine import open_engine\nwith open_engine(): pass"
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    if "ModuleNotFoundError" in done.stderr or "Permission denied" in done.stderr.splitlines()[0]:
        pytest.skip("the checkout is not readable to others: chmod o+rx it")
    assert "usermod -aG docker" in done.stderr


# A daemon of the test's own, which may be killed


@contextmanager
def own_daemon(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, maps_users: bool = False
) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Give a function that starts a daemon which has everything in the folder; ends the one that runs in the end."""
    socket = folder / "socket"
    started: list[subprocess.Popen[bytes]] = []
    words = ["unshare", "--net", "dockerd", f"--host=unix://{socket}", "--bridge=none"]  # else it takes others' bridges
    words += ["--iptables=false", "--ip6tables=false"]
    words += [f"--data-root={folder}/data", f"--exec-root={folder}/run", f"--pidfile={folder}/pid"]
    if maps_users:  # with users of its own to map to, which nobody else sees
        folder.chmod(0o711)
        for name in ("subuid", "subgid"):
            (folder / name).write_text("nobody:200000:65536\nnogroup:200000:65536\n")
        shown = " && ".join(f"mount --bind {folder}/{name} /etc/{name}" for name in ("subuid", "subgid"))
        shell = ["unshare", "--mount", "sh", "-c", f'touch /etc/subuid /etc/subgid && {shown} && exec "$@"', "sh"]
        words = [*shell, *words, "--userns-remap=nobody:nogroup"]

    def answers() -> bool:
        asked = subprocess.run(["docker", "-H", f"unix://{socket}", "info"], capture_output=True, check=False)
        return asked.returncode == 0

    def start() -> subprocess.Popen[bytes]:
        # A daemon takes the containerd of an earlier one for alive while nobody has waited for its end.
        (folder / "run" / "containerd" / "containerd.pid").unlink(missing_ok=True)
        with (folder / "log").open("ab") as log:
            started.append(subprocess.Popen(words, stdout=log, stderr=log))
        assert eventually(answers), (folder / "log").read_text()[-2000:]
        return started[-1]

    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    try:
        yield start
    finally:
        for process in started:
            process.terminate()
            process.wait()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose name leaves room for sockets; what is mounted below it is unmounted."""
    folder = Path(tempfile.mkdtemp(prefix="dkr"))
    yield folder
    for _ in range(3):
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
        for place in reversed(mounted):
            subprocess.run(["umount", "-l", place], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def import_small_image(engine: Engine, folder: Path, megabytes: int = 0) -> str:
    """An image without any program: the agent needs none."""
    archive = folder / "small.tar"
    with tarfile.open(archive, "w") as file:
        file.addfile(tarfile.TarInfo("empty"), io.BytesIO())
        for number in range(megabytes):
            item = tarfile.TarInfo(f"content/{number}")
            item.size = MEBIBYTE
            file.addfile(item, io.BytesIO(os.urandom(MEBIBYTE)))
    return engine.import_root(archive, "small:1")


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a daemon of its own needs root: run as root")


@needs_root
def test_a_daemon_that_is_killed_and_comes_back(
    docker_base: str, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = LeaseRequest(image=Image(image_id="small", reference="small:1"), privileges=Privileges.ROOT)
    root = PurePosixPath("/")

    async def run(start: Callable[[], subprocess.Popen[bytes]], daemon: subprocess.Popen[bytes]) -> None:
        async with open_docker_provider({}) as provider:
            async with provider.lease(request) as box:
                assert (await box.exec([AGENT], cwd=root, timeout_seconds=30)).exit_code == 2  # its usage
                daemon.kill()
                daemon.wait()
                assert (await box.exec([AGENT], cwd=root, timeout_seconds=30)).exit_code == 2
                with pytest.raises(EngineUnreachableError):
                    async with provider.lease(request):
                        pass
            await anyio.to_thread.run_sync(start)
            async with provider.lease(request) as box:
                assert (await box.exec([AGENT], cwd=root, timeout_seconds=30)).exit_code == 2

    with own_daemon(short_folder, monkeypatch) as start:
        daemon = start()
        with open_engine() as engine:
            import_small_image(engine, short_folder)
        anyio.run(run, start, daemon)
        assert eventually(lambda: left_by(os.getpid()) == [])


@needs_root
def test_a_daemon_that_maps_users_is_refused_in_one_line(
    docker_base: str, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_daemon(short_folder, monkeypatch, maps_users=True) as start:
        start()
        with open_engine() as engine:
            import_small_image(engine, short_folder)
        request = LeaseRequest(image=Image(image_id="small", reference="small:1"), privileges=Privileges.ROOT)
        with pytest.raises(MissingToolError, match="userns"):
            anyio.run(lease_once, request)
        assert left_by(os.getpid()) == []


@needs_root
def test_a_full_disk_of_the_daemon_is_told(
    docker_base: str, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short_folder / "data").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "own", str(short_folder / "data")], check=True)
    with own_daemon(short_folder, monkeypatch) as start:
        start()
        with open_engine() as engine, pytest.raises(EngineDiskFullError, match="room"):
            import_small_image(engine, short_folder, megabytes=40)


def test_a_mark_of_a_living_driver_is_not_dead(docker_base: str) -> None:
    async def run() -> None:
        async with open_docker_provider({}) as provider, provider.lease(REQUEST):
            with open_engine() as engine:
                told = engine.list_containers(OWNER_LABEL)[container_of(provider)][OWNER_LABEL]
        assert not is_dead(told)

    anyio.run(run)
