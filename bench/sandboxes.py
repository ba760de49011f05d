"""Boxes of both providers beside their floors: making and ending one, commands in one, files in and out, many at once.

    bench/sandboxes.py local docker
    bench/sandboxes.py local --only boxes files

Each figure stands beside its floor, taken in turn with it in the same run: bare bubblewrap, `docker run --rm`,
`docker exec`, `xargs` on this machine, `cat` through a unix socket.
"""

import argparse
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import anyio
from jail import BARE

from envfarm.plugins import SANDBOXES, load_plugin
from envfarm.records.image import Image
from envfarm.sandbox.client import files
from envfarm.sandbox.client.sandbox import AgentSandbox
from envfarm.sandbox.contract import GIBIBYTE, LeaseRequest, Limits, PreparesSandboxes, Sandbox, SandboxProvider
from envfarm.sandbox.docker.base_image import BASE_TAG

REQUEST = LeaseRequest(image=Image(image_id="empty"), limits=Limits(memory_bytes=6 * GIBIBYTE, disk_bytes=2 * GIBIBYTE))
CHUNK = 1 << 20
TRUE = ["/usr/bin/true"]
SETTLING_SECONDS = 0.1
"""Before anything is timed: what a provider makes to stand ready is paid by neither side."""


@dataclass(frozen=True)
class Row:
    """One measured thing: what, what was seen, the bar."""

    what: str
    seen: str
    bar: str


def milliseconds(values: list[float]) -> str:
    """Return median and least of seconds, as milliseconds."""
    return f"median {statistics.median(values) * 1e3:.2f} ms, least {min(values) * 1e3:.2f} ms"


def ratio(values: list[float], floors: list[float]) -> str:
    """Return the median of ratios taken in turn, and the ratio of the least ones."""
    return (
        f"{statistics.median(value / floor for value, floor in zip(values, floors, strict=True)):.2f} x "
        f"(least: {min(values) / min(floors):.2f} x)"
    )


def timed(words: list[str]) -> float:
    """Return the seconds that a program takes."""
    started = time.perf_counter()
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - started


async def lease_once(provider: SandboxProvider, request: LeaseRequest = REQUEST) -> float:
    """Return the seconds of a lease, `true` in it, and its end."""
    started = time.perf_counter()
    async with provider.lease(request) as box:
        assert (await box.exec(TRUE, timeout_seconds=60)).exit_code == 0
    return time.perf_counter() - started


async def measure_leases(provider: SandboxProvider, runs: int) -> AsyncIterator[Row]:
    """Yield cold leases beside the floor, and warm ones beside cold ones."""
    is_local = provider.name == "local"
    floor_words = BARE.split() if is_local else ["docker", "run", "--rm", "--network", "none", BASE_TAG, "true"]
    cold, floors, warm = [], [], []
    for number in range(runs + 2):
        await anyio.sleep(SETTLING_SECONDS)
        seconds = await lease_once(provider)
        await anyio.sleep(SETTLING_SECONDS)
        floor = await anyio.to_thread.run_sync(timed, floor_words)
        if number > 1:
            cold.append(seconds)
            floors.append(floor)
    name = "bare bubblewrap" if is_local else "docker run --rm"
    bar = "1.5 x" if is_local else "1.15 x"
    yield Row(f"lease, true, end: against {name}", f"{ratio(cold, floors)}; {milliseconds(cold)}", bar)
    if isinstance(provider, PreparesSandboxes):
        for _ in range(runs):
            await provider.prepare(REQUEST, 1)
            await anyio.sleep(SETTLING_SECONDS)
            warm.append(await lease_once(provider))
        yield Row("the same from warm boxes, against cold", f"{ratio(warm, cold)}; {milliseconds(warm)}", "0.1 x")


async def measure_commands(provider: SandboxProvider, runs: int) -> AsyncIterator[Row]:
    """Yield commands in an open lease, one after the other and many at once."""
    async with provider.lease(REQUEST) as box:
        seconds, floors = [], []
        container = newest_container() if provider.name == "docker" else ""
        for _ in range(runs):
            started = time.perf_counter()
            await box.exec(TRUE, timeout_seconds=60)
            seconds.append(time.perf_counter() - started)
            if container and len(floors) < runs // 4:
                floors.append(timed(["docker", "exec", container, "true"]))
        beside = (
            f"; docker exec is {statistics.median(floors) / statistics.median(seconds):.0f} x slower" if floors else ""
        )
        yield Row("a command that does nothing", milliseconds(seconds) + beside, "2 ms, 20 x")
        limiter = anyio.CapacityLimiter(64)

        async def one() -> None:
            async with limiter:
                await box.exec(TRUE, timeout_seconds=60)

        rates, floors = [], []
        for _ in range(3):
            floors.append(1000 / timed(["sh", "-c", f"seq 1000 | xargs -P 64 -n 1 {TRUE[0]}"]))
            started = time.perf_counter()
            async with anyio.create_task_group() as group:
                for _ in range(1000):
                    group.start_soon(one)
            rates.append(1000 / (time.perf_counter() - started))
        words = f"{max(rates):.0f}/s at best, {min(rates):.0f}/s at worst; xargs without a box {max(floors):.0f}/s"
        yield Row("1,000 of them, 64 at once", words, "2000/s")


def newest_container() -> str:
    """Return the container of the only lease there is."""
    words = ["docker", "ps", "-q", "--latest", "--filter", "label=envfarm.owner"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def cat_through_socket(source: Path, target: Path) -> float:
    """Return the seconds of a file going through a unix socket by two `cat`."""
    left, right = socket.socketpair()
    started = time.perf_counter()
    with left, right, target.open("wb") as file, source.open("rb") as read:
        sender = subprocess.Popen(["cat"], stdin=read, stdout=left)
        receiver = subprocess.Popen(["cat"], stdin=right, stdout=file)
        left.close()
        right.close()
        sender.wait()
        receiver.wait()
    return time.perf_counter() - started


async def measure_files(provider: SandboxProvider, size: int) -> AsyncIterator[Row]:
    """Yield a large file in and out, beside `cat`."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        with source.open("wb") as file:
            for _ in range(size // CHUNK):
                file.write(os.urandom(CHUNK))
        cat = min(cat_through_socket(source, target) for _ in range(2))
        target.unlink()
        path = PurePosixPath("/workspace/large")
        async with provider.lease(REQUEST) as box:
            assert isinstance(box, AgentSandbox)
            before = own_memory()
            entry = files.Entry(path=path, mode=0o644)
            started = time.perf_counter()
            await files.upload(box.client, entry, chunks_of(source), size_bytes=size)
            into = time.perf_counter() - started
            started, taken = time.perf_counter(), 0
            async for part in files.download(box.client, path):
                taken += len(part)
            out = time.perf_counter() - started
            assert taken == size
            grown = (own_memory() - before) >> 20
        words = (
            f"in {cat / into:.2f}, out {cat / out:.2f} of cat's rate ({size / cat / 1e9:.1f} GB/s); driver +{grown} MiB"
        )
        yield Row(f"{size >> 20} MiB in and out", words, "0.5, flat")


async def chunks_of(path: Path) -> AsyncIterator[bytes]:
    """Yield a file in parts."""
    with path.open("rb") as file:
        while part := file.read(files.PART_BYTES):
            yield part


def own_memory() -> int:
    """Return this process's resident bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def resident_of(words: bytes) -> int:
    """Return the proportional resident bytes of all processes whose command line holds these words."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if words in (folder / "cmdline").read_bytes():
                rows = (folder / "smaps_rollup").read_text().splitlines()
                total += sum(int(row.split()[1]) << 10 for row in rows if row.startswith("Pss:"))
        except OSError:
            continue
    return total


async def measure_boxes(provider: SandboxProvider, count: int) -> AsyncIterator[Row]:
    """Yield many boxes that are open at once."""
    marks = (b"envfarm/sandbox/local/keeper", b"/.envfarm/agent")
    before = sum(map(resident_of, marks))
    started = time.perf_counter()
    async with AsyncExitStack() as stack:
        boxes: list[Sandbox] = [await stack.enter_async_context(provider.lease(REQUEST)) for _ in range(count)]
        codes: list[int | None] = []

        async def one(box: Sandbox) -> None:
            codes.append((await box.exec(TRUE, timeout_seconds=60)).exit_code)

        async with anyio.create_task_group() as group:
            for box in boxes:
                group.start_soon(one, box)
        took = time.perf_counter() - started
        each = (sum(map(resident_of, marks)) - before) / count / 1e6
    assert codes == [0] * count
    yield Row(f"{count} boxes open at once", f"all pass a command, {took:.1f} s; {each:.2f} MB resident each", "3 MB")


Measure = Callable[[SandboxProvider], AsyncIterator[Row]]


async def run(names: list[str], options: argparse.Namespace) -> None:
    """Measure and print."""
    parts: dict[str, Measure] = {
        "leases": lambda provider: measure_leases(provider, options.runs),
        "commands": lambda provider: measure_commands(provider, 10 * options.runs),
        "files": lambda provider: measure_files(provider, options.megabytes << 20),
        "boxes": lambda provider: measure_boxes(provider, options.boxes if provider.name == "local" else 10),
    }
    for name in names:
        for part in options.only or parts:
            async with load_plugin(SANDBOXES, name)({}) as provider:
                async for row in parts[part](provider):
                    print(f"{name:<7} {row.what:<48} {row.seen}  [bar {row.bar}]", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("providers", nargs="+", choices=["local", "docker"])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--boxes", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=["leases", "commands", "files", "boxes"])
    options = parser.parse_args()
    anyio.run(run, options.providers, options)


if __name__ == "__main__":
    main()
