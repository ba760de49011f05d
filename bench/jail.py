"""A jail's lease, `true`, and end against bare bubblewrap doing `true` with the same namespaces and mounts, in turn."""

import argparse
import statistics
import subprocess
import time

import anyio

from envfarm.records.image import Image
from envfarm.sandbox.contract import LeaseRequest
from envfarm.sandbox.local.provider import open_local_provider

BARE = """
bwrap --unshare-all --unshare-user --disable-userns --uid 1000 --gid 1000 --hostname envfarm --die-with-parent
--new-session --cap-drop ALL --clearenv --symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64
--ro-bind /usr /usr --ro-bind /etc/ld.so.cache /etc/ld.so.cache --ro-bind /etc/alternatives /etc/alternatives
--ro-bind /etc/nsswitch.conf /etc/nsswitch.conf --proc /proc --dev /dev --tmpfs /tmp --tmpfs /dev/shm
--tmpfs /workspace --remount-ro / --chdir / -- /usr/bin/true
"""
BAR = 1.5
SETTLING_SECONDS = 0.1
"""Before anything is timed: the jail that is made to stand ready is paid by neither side."""


async def measure(runs: int) -> tuple[list[float], list[float], list[float]]:
    """Return seconds of whole leases, of bare bubblewrap, and of commands in one open lease."""
    leases, bare, commands = [], [], []
    request = LeaseRequest(image=Image(image_id="empty"))
    async with open_local_provider({}) as provider:
        for number in range(runs + 5):
            await anyio.sleep(SETTLING_SECONDS)
            started = time.perf_counter()
            async with provider.lease(request) as sandbox:
                await sandbox.exec(["/usr/bin/true"], timeout_seconds=10)
            leased = time.perf_counter() - started
            await anyio.sleep(SETTLING_SECONDS)
            middle = time.perf_counter()
            subprocess.run(BARE.split(), check=True, stdin=subprocess.DEVNULL)  # noqa: ASYNC221 -- the floor, started as plainly
            ended = time.perf_counter()
            if number >= 5:  # noqa: PLR2004 -- warm-up
                leases.append(leased)
                bare.append(ended - middle)
        async with provider.lease(request) as sandbox:
            for _ in range(runs):
                started = time.perf_counter()
                await sandbox.exec(["/usr/bin/true"], timeout_seconds=10)
                commands.append(time.perf_counter() - started)
    return leases, bare, commands


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    leases, bare, commands = anyio.run(measure, parser.parse_args().runs)
    ratio = statistics.median(mine / floor for mine, floor in zip(leases, bare, strict=True))
    for name, times in (("bare bubblewrap", bare), ("lease, true, end", leases), ("true in an open lease", commands)):
        print(f"{name:<24} median {statistics.median(times) * 1000:6.2f} ms   min {min(times) * 1000:6.2f} ms")
    print(f"lease, true, end against bare bubblewrap: {ratio:.2f} x (bar {BAR} x)")


if __name__ == "__main__":
    main()
