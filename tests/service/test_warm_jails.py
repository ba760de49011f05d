"""Local jails that stand ready: fresh, fast, used once, bounded in all, and gone with their provider."""

import time
from dataclasses import replace
from pathlib import Path

import anyio

from envfarm.records.image import Folder, FolderAccess, Image
from envfarm.sandbox.contract import LeaseRequest, Limits
from envfarm.sandbox.local.cgroups import find_control_groups
from envfarm.sandbox.local.leftovers import GROUP_PREFIX
from envfarm.sandbox.local.provider import LocalProvider, open_local_provider
from envfarm.sandbox.owner_mark import owner_mark

REQUEST = LeaseRequest(image=Image(image_id="warm"))


def ready(provider: LocalProvider) -> int:
    return sum(map(len, provider._pool._ready.values()))


def test_a_warm_jail_is_fresh_fast_and_used_once() -> None:
    async def run() -> None:
        async with open_local_provider({}) as provider:
            warm, cold = [], []
            for _ in range(5):
                await provider.prepare(REQUEST, 1)
                started = time.monotonic()
                async with provider.lease(REQUEST) as box:
                    seen = await box.exec(["sh", "-c", "ls -A /tmp . ~; echo left > /tmp/left"], timeout_seconds=30)
                    warm.append(time.monotonic() - started)
                    assert seen.stdout == b".:\n\n/home/user:\n\n/tmp:\n"
            for number in range(5):
                started = time.monotonic()
                async with provider.lease(replace(REQUEST, limits=Limits(process_count=100 + number))) as box:
                    await box.exec(["true"], timeout_seconds=30)
                    cold.append(time.monotonic() - started)
            assert min(warm) < min(cold)
        assert not find_control_groups(f"{GROUP_PREFIX}{owner_mark()}")

    anyio.run(run)


def test_warm_jails_have_a_bound_in_all_and_the_latest_requests_have_them() -> None:
    async def run() -> None:
        async with open_local_provider({"warm_boxes": 2}) as provider:
            for count in (100, 101, 102):
                async with provider.lease(replace(REQUEST, limits=Limits(process_count=count))):
                    pass
            assert ready(provider) == 2
            (key,) = [key for key, boxes in provider._pool._ready.items() if boxes]
            assert "process_count=102" in key
        assert not find_control_groups(f"{GROUP_PREFIX}{owner_mark()}")

    anyio.run(run)


def test_a_box_that_writes_to_this_machine_never_stands_ready(tmp_path: Path) -> None:
    folder = Folder(source=str(tmp_path), target="/opt/written", access=FolderAccess.READ_WRITE)

    async def run() -> None:
        async with open_local_provider({"warm_boxes": 2}) as provider:
            async with provider.lease(replace(REQUEST, folders=(folder,))) as box:
                assert (await box.exec(["touch", "/opt/written/file"], timeout_seconds=30)).exit_code == 0
            assert ready(provider) == 0

    anyio.run(run)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_background_processes_live_on_where_that_was_asked_for() -> None:
    async def run() -> None:
        async with open_local_provider({}) as provider:
            for lives in (True, False):
                async with provider.lease(replace(REQUEST, keeps_background=lives)) as box:
                    await box.exec(["sh", "-c", "(setsid sleep 60 >/dev/null 2>&1 &) ; true"], timeout_seconds=30)
                    seen = await box.exec(
                        ["sh", "-c", 'cat /proc/[0-9]*/cmdline | grep -c "slee[p]"; true'], timeout_seconds=9
                    )
                    assert (seen.stdout != b"0\n") == lives

    anyio.run(run)
