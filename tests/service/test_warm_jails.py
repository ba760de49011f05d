"""Local jails that stand ready: fresh, fast, used once, bounded in all, and gone with their provider."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

import anyio
import pytest

from envfarm.errors import SandboxStartError
from envfarm.records.image import Folder, FolderAccess, Image
from envfarm.sandbox.contract import LeaseRequest, Limits
from envfarm.sandbox.local import host_facts
from envfarm.sandbox.local.cgroups import find_control_groups, make_control_groups
from envfarm.sandbox.local.leftovers import GROUP_PREFIX
from envfarm.sandbox.local.provider import LocalProvider, open_local_provider
from envfarm.sandbox.owner_mark import owner_mark

REQUEST = LeaseRequest(image=Image(image_id="warm"))


def ready(provider: LocalProvider) -> int:
    return sum(map(len, provider._pool._ready.values()))


def test_a_warm_jail_is_fresh_made_before_and_used_once() -> None:
    async def run() -> None:
        async with open_local_provider({}) as provider:
            given = []
            for _ in range(5):
                await provider.prepare(REQUEST, 1)
                (held,) = [held for boxes in provider._pool._ready.values() for held in boxes]
                async with provider.lease(REQUEST) as box:
                    assert box is held.box
                    given.append(box)
                    seen = await box.exec(["sh", "-c", "ls -A /tmp . ~; echo left > /tmp/left"], timeout_seconds=30)
                    assert seen.stdout == b".:\n\n/home/user:\n\n/tmp:\n"
            assert len(set(map(id, given))) == len(given)
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


@pytest.mark.parametrize("shows_later", [True, False])
def test_folders_are_the_same_whether_they_are_shown_at_first_or_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, shows_later: bool
) -> None:
    if not shows_later:  # as on kernels before 5.12
        monkeypatch.setattr(host_facts, "_MOUNT_SETATTR", 4095)
    for name in ("read_only", "copy_on_write", "read_write"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "file").write_text(name)
    folders = tuple(
        Folder(source=str(tmp_path / access), target=f"/opt/deep/{access}", access=access) for access in FolderAccess
    )
    inner = Folder(source=str(tmp_path / "read_only"), target="/opt/deep/copy_on_write/inner/seen")
    file = Folder(source=str(tmp_path / "read_only" / "file"), target="/opt/file")
    program = (
        "for name in read_only copy_on_write read_write; do cat /opt/deep/$name/file; "
        "echo new > /opt/deep/$name/file; done 2>/dev/null; cat /opt/file /opt/deep/copy_on_write/inner/seen/file; "
        "echo new > /opt/file; echo new > /opt/deep/copy_on_write/inner/seen/file; echo new > /x; "
        "umount /opt/file; mount -o remount,bind,rw /opt/deep/read_only; echo new > /opt/deep/read_only/file"
    )

    async def run() -> None:
        async with open_local_provider({}) as provider:
            async with provider.lease(replace(REQUEST, folders=(*folders, inner, file))) as box:
                seen = await box.exec(["sh", "-c", program], timeout_seconds=30)
                assert seen.stdout == b"read_onlycopy_on_writeread_writeread_onlyread_only"
                mounted = (await box.read_file(PurePosixPath("/proc/self/mountinfo"))).decode().splitlines()
                flags = {line.split()[4]: line.split()[5] for line in mounted}
                assert all({"nosuid", "nodev"} <= set(flags[folder.target].split(",")) for folder in (*folders, inner))
                assert flags["/opt/deep/read_only"].startswith("ro,")
            async with provider.lease(REQUEST) as box:
                assert (await box.exec(["ls", "/opt"], timeout_seconds=30)).exit_code != 0

    anyio.run(run)
    written = {name: (tmp_path / name / "file").read_text() for name in ("read_only", "copy_on_write", "read_write")}
    assert written == {"read_only": "read_only", "copy_on_write": "copy_on_write", "read_write": "new\n"}


def test_a_folder_that_cannot_be_shown_is_an_error_of_the_start(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "code" / "link").symlink_to(tmp_path / "outside")
    code = Folder(source=str(tmp_path / "code"), target="/workspace", access=FolderAccess.COPY_ON_WRITE)
    through = Folder(source=str(tmp_path), target="/workspace/link/inner")
    missing = Folder(source=str(tmp_path / "missing"), target="/opt/missing")

    async def run() -> None:
        async with open_local_provider({}) as provider:
            for folders, words in (((code, through), "symbolic link"), ((missing,), "does not exist")):
                with pytest.raises(SandboxStartError, match=words):
                    async with provider.lease(replace(REQUEST, folders=folders)):
                        pytest.fail("a lease was given")
            async with provider.lease(replace(REQUEST, folders=(code,))) as box:
                assert (await box.exec(["true"], timeout_seconds=30)).exit_code == 0

    anyio.run(run)
    assert list((tmp_path / "outside").iterdir()) == [], "something was made on this machine through a link"


def memory_is_bounded_by_groups() -> bool:
    groups = make_control_groups(f"{GROUP_PREFIX}{owner_mark()}tried")
    groups.remove()
    return groups.memory is not None


@pytest.mark.skipif(not memory_is_bounded_by_groups(), reason="this user may make no control groups: run as root")
def test_a_bound_that_the_kernel_refuses_is_an_error_of_the_start_and_never_no_bound() -> None:
    tiny = replace(REQUEST, limits=Limits(memory_bytes=4_096))

    async def run() -> None:
        async with open_local_provider({}) as provider:
            with pytest.raises(SandboxStartError):
                async with provider.lease(tiny):
                    pytest.fail("a lease was given")
            async with provider.lease(REQUEST) as box:
                assert (await box.exec(["true"], timeout_seconds=30)).exit_code == 0
        assert not find_control_groups(f"{GROUP_PREFIX}{owner_mark()}")

    anyio.run(run)


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
