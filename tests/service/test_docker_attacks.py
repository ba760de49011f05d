"""What a box does to its container's bounds, and what befalls a box: held, typed, and gone with the lease."""

import io
import os
import re
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath

import anyio
import pytest

from envfarm.errors import SandboxLostError, SandboxRefusedError
from envfarm.records.image import Image
from envfarm.sandbox.contract import MEBIBYTE, ExecResult, LeaseRequest, Limits, Sandbox
from envfarm.sandbox.docker.container import OWNER_LABEL
from envfarm.sandbox.docker.engine import open_engine
from envfarm.sandbox.docker.provider import FOLDER_PREFIX, DockerProvider, folders_place, open_docker_provider

REQUEST = LeaseRequest(image=Image(image_id="attacked"))
SMALL = replace(REQUEST, limits=Limits(disk_bytes=8 * MEBIBYTE, memory_bytes=256 * MEBIBYTE))


async def shell(box: Sandbox, program: str, *, seconds: float = 60.0) -> ExecResult:
    return await box.exec(["sh", "-c", program], timeout_seconds=seconds)


def lease(check: Callable[[Sandbox], Awaitable[None]], request: LeaseRequest = REQUEST, **options: object) -> None:
    """Run a check in a box; nothing of this driver is left afterwards."""

    async def run() -> None:
        async with open_docker_provider(options) as provider, provider.lease(request) as box:
            await check(box)

    anyio.run(run)
    with open_engine() as engine:
        told = engine.list_containers(OWNER_LABEL).values()
    assert not [labels for labels in told if f"-{os.getpid()}-" in labels[OWNER_LABEL]]
    assert not list(folders_place().glob(f"{FOLDER_PREFIX}*-{os.getpid()}-*"))


def container_of(provider: DockerProvider) -> str:
    found = provider.engine.list_containers(OWNER_LABEL)
    (mine,) = [name for name, told in found.items() if f"-{os.getpid()}-" in told[OWNER_LABEL]]
    return mine


@pytest.fixture
def base_with_volumes(docker_base: str) -> Iterator[str]:
    import docker

    api = docker.APIClient()
    recipe = f"FROM {docker_base}\nRUN mkdir /data && chmod 777 /data\nVOLUME /data /tmp /workspace /home/user/\n"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(recipe)
        archive.addfile(info, io.BytesIO(recipe.encode()))
    tag = f"envfarm-test-volumes:{os.getpid()}"
    try:
        list(api.build(fileobj=io.BytesIO(packed.getvalue()), custom_context=True, tag=tag, rm=True))
        yield tag
    finally:
        api.remove_image(tag, force=True)
        api.close()


def unnamed_volumes() -> set[str]:
    listed = subprocess.run(["docker", "volume", "ls", "--quiet"], capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.split() if re.fullmatch("[0-9a-f]{64}", name)}


def test_volumes_of_a_base_are_bounded_like_any_place(base_with_volumes: str) -> None:
    async def check(box: Sandbox) -> None:
        fill = "for place in /data /tmp /workspace ~; do head -c 20M /dev/zero > $place/x || echo $place; done"
        assert (await shell(box, fill)).stdout == b"/data\n/tmp\n/workspace\n/home/user\n"

    before = unnamed_volumes()
    lease(check, SMALL, base=base_with_volumes)
    assert unnamed_volumes() <= before


@pytest.mark.skipif(os.geteuid() != 0, reason="a driver that is no root is the box's own user: run as root")
def test_the_folder_of_the_agents_socket_cannot_be_written(docker_base: str) -> None:
    async def check(box: Sandbox) -> None:
        tried = "cd /.envfarm/run; ls; echo > x; rm agent; ln -s /dev/null agent; chmod 777 ."
        done = await shell(box, tried)
        assert (done.exit_code, done.stdout) == (1, b"")
        assert done.stderr.count(b"ermission denied") + done.stderr.count(b"not permitted") >= 4
        assert (await shell(box, "echo on")).stdout == b"on\n"

    lease(check)


def test_places_that_take_all_the_memory_end_commands_and_say_so(docker_base: str) -> None:
    request = replace(REQUEST, limits=Limits(disk_bytes=512 * MEBIBYTE, memory_bytes=96 * MEBIBYTE))

    async def check(box: Sandbox) -> None:
        """The commands are ended, and where nothing else is left to end, the box; each is told as what it is."""
        told = ""
        for number in range(4):
            try:
                done = await shell(box, f"exec head -c 200M /dev/zero > /tmp/{number}")
            except SandboxLostError as lost:
                told = str(lost)
                break
            assert (done.exit_code, done.signal, done.out_of_memory) == (None, signal.SIGKILL, True)
        assert not told or "memory was exhausted" in told

    lease(check, request)


def test_a_fork_bomb_of_daemons_is_held_and_spares_other_boxes(docker_base: str) -> None:
    bomb = "import os\nwhile True:\n try:\n  os.fork() or os.setsid()\n except OSError:\n  pass\n"

    async def run() -> None:
        request = replace(REQUEST, limits=Limits(process_count=60))
        async with (
            open_docker_provider({}) as provider,
            provider.lease(request) as box,
            provider.lease(REQUEST) as other,
        ):
            ended: list[ExecResult] = []

            async def burn() -> None:
                ended.append(await box.exec(["python3", "-c", bomb], timeout_seconds=3))

            async with anyio.create_task_group() as group:
                group.start_soon(burn)
                await anyio.sleep(1)
                many = await shell(other, "for i in $(seq 100); do sleep 1 & done; echo $i")
                assert many.stdout == b"100\n"
                with suppress(SandboxRefusedError):
                    await shell(box, ":")
            assert ended[0].timed_out
            assert (ended[0].exit_code, ended[0].signal) == (None, signal.SIGKILL)
            left = "cat /proc/[0-9]*/comm | sort | uniq -c | sort -rn; echo on"
            done = await shell(box, left)
            assert done.stdout.endswith(b"on\n")
            assert b"python3" not in done.stdout, done.stdout

    anyio.run(run)


@pytest.mark.parametrize("days", [-400, 400])
def test_a_jump_of_the_wall_clock_changes_nothing(docker_base: str, days: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's clock; the agent reads none but the one that never jumps, as the next test says."""
    true_time, true_nanoseconds = time.time, time.time_ns

    def jump() -> None:
        monkeypatch.setattr(time, "time", lambda: true_time() + days * 86_400)
        monkeypatch.setattr(time, "time_ns", lambda: true_nanoseconds() + days * 86_400 * 10**9)

    async def run() -> None:
        async with open_docker_provider({}) as provider, provider.lease(REQUEST) as box:
            results: list[ExecResult] = []

            async def wait() -> None:
                results.append(await shell(box, "sleep 1.5; echo on; exit 7"))
                results.append(await shell(box, "sleep 60", seconds=1.0))

            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.sleep(0.7)
                jump()
            assert (results[0].exit_code, results[0].stdout, results[0].timed_out) == (7, b"on\n", False)
            assert 1.4 < results[0].wall_seconds < 30
            assert results[1].timed_out
            assert 0.9 < results[1].wall_seconds < 30
            engine_kill = ["docker", "kill", container_of(provider)]
            await anyio.run_process(engine_kill)
            with pytest.raises(SandboxLostError, match="killed from outside by signal 9"):
                await shell(box, "true")
            async with provider.lease(REQUEST) as another:
                assert (await shell(another, "true")).exit_code == 0

    anyio.run(run)


def test_the_agent_reads_no_clock_that_can_jump() -> None:
    from envfarm.sandbox.agent import programs

    sources = sorted((programs.TWIN.parent / "source").glob("*.[ch]"))
    text = "\n".join(path.read_text() for path in sources)
    assert "CLOCK_MONOTONIC" in text
    assert not [word for word in ("CLOCK_REALTIME", "gettimeofday", "time(NULL", "time(0") if word in text]
    twin = "\n".join(path.read_text() for path in programs.TWIN.glob("*.py"))
    assert "monotonic()" in twin
    assert "time.time(" not in twin


def test_a_connection_that_is_cut_in_the_middle_of_frames_loses_nothing(docker_base: str) -> None:
    size = 60_000_000

    async def check(box: Sandbox) -> None:
        cuts = 0

        async def cut_often() -> None:
            nonlocal cuts
            while True:
                await anyio.sleep(0.03)
                link = box.client._link  # type: ignore[attr-defined] -- of the agent's client
                if link is not None and link._stream.socket.fileno() >= 0:
                    link._stream.socket.shutdown(socket.SHUT_RDWR)
                    cuts += 1
                await anyio.sleep(0.2)

        async with anyio.create_task_group() as group:
            group.start_soon(cut_often)
            content = bytes(range(256)) * (size // 256)
            await box.write_file(PurePosixPath("/workspace/large"), content)
            assert await box.read_file(PurePosixPath("/workspace/large")) == content
            done = await shell(box, "seq 400000; echo end >&2; exit 3")
            assert (done.exit_code, done.stderr, done.timed_out) == (3, b"end\n", False)
            assert len(done.stdout) + done.stdout_dropped_bytes == len("".join(f"{n}\n" for n in range(1, 400_001)))
            done = await shell(box, "sleep 1; kill -TERM $$")
            assert (done.exit_code, done.signal) == (None, signal.SIGTERM)
            group.cancel_scope.cancel()
        assert cuts >= 3

    lease(check)
