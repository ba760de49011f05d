"""Every agent moves files as the protocol says."""

import errno
import hashlib
import os
import stat as modes
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path, PurePosixPath
from types import ModuleType

import anyio
import pytest

from envfarm.errors import SandboxRefusedError
from envfarm.sandbox.client import files
from envfarm.sandbox.client.connection import AgentClient
from envfarm.sandbox.client.files import Acting, Entry, FileKind, Owner
from envfarm.sandbox.client.frames import Kind, Status, Tag, Value, encode_fields
from envfarm.sandbox.client.job import JobSpec, run_job

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users")


def inside(folder: Path, *parts: str) -> PurePosixPath:
    return PurePosixPath(folder, *parts)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def try_with(agents: ModuleType, kind: str, use: Callable[[AgentClient], Awaitable[None]]) -> None:
    async def run() -> None:
        with anyio.fail_after(60):
            async with agents.hold(kind) as (client, _):
                await use(client)

    anyio.run(run)


def test_files_go_in_and_out_unchanged(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    contents = {"empty": b"", "bytes": bytes(range(256)), "large": os.urandom(5_000_000), "edge": bytes(1 << 20)}

    async def use(client: AgentClient) -> None:
        entries = [Entry(path=inside(tmp_path, "new", "in", name), content=data) for name, data in contents.items()]
        await files.put(client, entries)
        for name, data in contents.items():
            assert (tmp_path / "new" / "in" / name).read_bytes() == data
            assert await files.get(client, inside(tmp_path, "new", "in", name), limit_bytes=10_000_000) == data
        await files.put(client, [Entry(path=inside(tmp_path, "program"), content=b"#!", mode=0o4755)])
        assert modes.S_IMODE((tmp_path / "program").stat().st_mode) == 0o4755
        await files.put(client, [Entry(path=inside(tmp_path, "program"), content=b"x", mode=0o600)])
        assert (tmp_path / "program").read_bytes() == b"x"
        assert sorted(names_in(tmp_path)) == ["new", "program"]

    try_with(agents, kind, use)


def test_a_tree_goes_in_as_one_batch(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    async def use(client: AgentClient) -> None:
        entries = [
            Entry(path=inside(tmp_path, "d"), kind=FileKind.FOLDER, mode=0o700),
            *(Entry(path=inside(tmp_path, "d", f"f{n}"), content=b"%d" % n) for n in range(3000)),
            Entry(path=inside(tmp_path, "d", "link"), kind=FileKind.LINK, target="f1"),
            Entry(path=inside(tmp_path, "d"), kind=FileKind.FOLDER, mode=0o750),
        ]
        await files.put(client, entries)
        assert (tmp_path / "d" / "link").readlink() == Path("f1")
        assert modes.S_IMODE((tmp_path / "d").stat().st_mode) == 0o750
        paths = [inside(tmp_path, "d", f"f{n}") for n in range(3000)]
        assert await files.fetch(client, paths, limit_bytes=10) == [b"%d" % n for n in range(3000)]
        found = await files.list_folder(client, inside(tmp_path, "d"))
        assert [item.name for item in found] == sorted(names_in(tmp_path / "d"))
        link = next(item for item in found if item.name == "link")
        assert (link.kind, link.target) == (FileKind.LINK, "f1")

    try_with(agents, kind, use)


def test_large_folders_are_listed_in_parts(agents: ModuleType, tmp_path: Path) -> None:
    names = [f"{'x' * 200}{number:06d}" for number in range(6000)]
    for name in names:
        (tmp_path / name).touch()

    async def use(client: AgentClient) -> None:
        assert [item.name for item in await files.list_folder(client, inside(tmp_path))] == names

    for kind in ("c-unix", "python-unix"):
        try_with(agents, kind, use)


def test_fetching_mixes_small_large_and_missing(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"s")
    (tmp_path / "large").write_bytes(bytes(3_000_000))
    (tmp_path / "folder").mkdir()

    async def use(client: AgentClient) -> None:
        wanted = [inside(tmp_path, name) for name in ("small", "missing", "large", "folder", "small")]
        small, missing, large, folder, again = await files.fetch(client, wanted, limit_bytes=4_000_000)
        assert (small, large, again) == (b"s", bytes(3_000_000), b"s")
        assert isinstance(missing, OSError)
        assert isinstance(folder, OSError)
        assert (missing.errno, folder.errno) == (errno.ENOENT, errno.EISDIR)
        with pytest.raises(ValueError, match="larger"):
            await files.fetch(client, wanted, limit_bytes=2_000_000)

    try_with(agents, kind, use)


def test_odd_names_are_names(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    odd = ["a b", "line\nbreak", "-rf", "*", "$(id)", "'\"", "\u00fc\u4e2d", os.fsdecode(b"\xff\xfe")]

    async def use(client: AgentClient) -> None:
        await files.put(client, [Entry(path=inside(tmp_path, name), content=os.fsencode(name)) for name in odd])
        for name in odd:
            assert await files.get(client, inside(tmp_path, name), limit_bytes=100) == os.fsencode(name)
        found = [item.name for item in await files.list_folder(client, inside(tmp_path))]
        assert sorted(found) == sorted(odd) == sorted(names_in(tmp_path))

    try_with(agents, kind, use)


def test_what_is_no_regular_file_is_told_at_once(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "file").write_bytes(b"12345")
    expected = {"missing": errno.ENOENT, "file/deep": errno.ENOTDIR, "folder": errno.EISDIR, "pipe": errno.ENOENT}
    expected |= {"dangling": errno.ENOENT, "self": errno.ELOOP, "/dev/zero": errno.ENOENT}

    async def use(client: AgentClient) -> None:
        for name, number in expected.items():
            with pytest.raises(OSError, match=r"\w") as caught:
                await files.get(client, inside(tmp_path, name), limit_bytes=10)
            assert (caught.value.errno, name) == (number, name)
        assert await files.get(client, inside(tmp_path, "file"), limit_bytes=5) == b"12345"
        with pytest.raises(ValueError, match="larger"):
            await files.get(client, inside(tmp_path, "file"), limit_bytes=4)
        assert b"Linux" in await files.get(client, PurePosixPath("/proc/version"), limit_bytes=10_000)

    try_with(agents, kind, use)


def test_what_cannot_be_written_is_told_and_leaves_what_was(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    (tmp_path / "folder" / "full").mkdir(parents=True)
    (tmp_path / "file").write_bytes(b"before")

    async def use(client: AgentClient) -> None:
        async def fails(path: PurePosixPath, *numbers: int, content: bytes = b"x") -> None:
            with pytest.raises(OSError, match=r"\w") as caught:
                await files.put(client, [Entry(path=path, content=content)])
            assert caught.value.errno in numbers
            assert caught.value.filename == str(path)

        for content in (b"x", bytes(2 << 20)):
            await fails(inside(tmp_path, "folder"), errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST, content=content)
            await fails(inside(tmp_path, "file", "below"), errno.ENOTDIR, content=content)
            await fails(PurePosixPath("/proc/new"), errno.ENOENT, errno.EACCES, errno.EPERM, content=content)
        await fails(PurePosixPath("/dev/full/x"), errno.ENOTDIR)
        good = Entry(path=inside(tmp_path, "good"), content=b"1")
        with pytest.raises(OSError, match=r"\w") as caught:
            await files.put(client, [good, Entry(path=inside(tmp_path, "file", "below")), good])
        assert caught.value.filename == str(tmp_path / "file" / "below")
        assert sorted(names_in(tmp_path)) == ["file", "folder", "good"]
        assert (tmp_path / "file").read_bytes() == b"before"

    try_with(agents, kind, use)


def test_content_that_is_not_what_was_announced_changes_nothing(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"before")
    right = hashlib.sha256(b"content").digest()

    async def use(client: AgentClient) -> None:
        def entry(size: int) -> bytes:
            return encode_fields([(Tag.PATH, path), (Tag.FILE_KIND, 1), (Tag.SIZE, size)])

        for digest, size, bulk, status in (
            (bytes(32), 7, b"content", Status.BAD_DIGEST),
            (right, 6, b"content", Status.BAD_DIGEST),
            (right, 8, b"content", Status.MALFORMED),
            (right, 7, b"contenX", Status.BAD_DIGEST),
        ):
            reply = await client.ask(Kind.PUT, encode_fields([(Tag.ENTRY, entry(size)), (Tag.DIGEST, digest)]), bulk)
            assert reply.status == status
        for name, size, part, digest, status in (
            ("a", 7, b"content", bytes(32), Status.BAD_DIGEST),
            ("b", 8, b"content", right, Status.BAD_DIGEST),
            ("c", 6, b"content", right, Status.CONFLICT),
        ):
            opening = [(Tag.UPLOAD, name), (Tag.PATH, path), (Tag.MODE, 0o644), (Tag.SIZE, size)]
            await client.request(Kind.UPLOAD, *opening)
            reply = await client.ask(Kind.DATA, encode_fields([(Tag.UPLOAD, name), (Tag.OFFSET, 0)]), part)
            if reply.status == Status.OK:
                reply = await client.ask(Kind.COMMIT, encode_fields([(Tag.UPLOAD, name), (Tag.DIGEST, digest)]))
            assert reply.status == status
        reply = await client.ask(Kind.COMMIT, encode_fields([(Tag.UPLOAD, "a"), (Tag.DIGEST, right)]))
        assert reply.status == Status.NO_SUCH_UPLOAD
        assert (tmp_path / "file").read_bytes() == b"before"

    try_with(agents, kind, use)
    assert names_in(tmp_path) == ["file"], "a temporary file outlived the agent"


def test_content_goes_without_a_digest_where_the_client_asks_for_none(
    agents: ModuleType, kind: str, tmp_path: Path
) -> None:
    right = hashlib.sha256(b"content").digest()

    async def upload(client: AgentClient, name: str, unhashed: int, digest: bytes | None, part: bytes) -> Status:
        path = str(tmp_path / name)
        opening: list[tuple[int, Value]] = [(Tag.UPLOAD, name), (Tag.PATH, path), (Tag.MODE, 0o644), (Tag.SIZE, 7)]
        await client.request(Kind.UPLOAD, *opening, (Tag.UNHASHED, unhashed))
        await client.request(Kind.DATA, (Tag.UPLOAD, name), (Tag.OFFSET, 0), bulk=part)
        end: list[tuple[int, Value]] = [(Tag.UPLOAD, name)] + ([] if digest is None else [(Tag.DIGEST, digest)])
        return Status((await client.ask(Kind.COMMIT, encode_fields(end))).status)

    async def use(client: AgentClient) -> None:
        assert await upload(client, "unhashed", 1, None, b"content") == Status.OK
        assert await upload(client, "hashed", 0, right, b"content") == Status.OK
        assert await upload(client, "none", 0, None, b"content") == Status.BAD_DIGEST
        assert await upload(client, "short", 1, None, b"conten") == Status.BAD_DIGEST
        for name, digest in (("given-up", bytes(32)), ("right", right)):
            assert await upload(client, name, 1, digest, b"content") == Status.BAD_DIGEST
        for unhashed, expected in ((1, b""), (0, right)):
            asked = ((Tag.PATH, str(tmp_path / "unhashed")), (Tag.OFFSET, 0), (Tag.LENGTH, 99))
            reply = await client.request(Kind.GET, *asked, (Tag.UNHASHED, unhashed))
            assert (reply.bulk, reply.fields.data(Tag.DIGEST)) == (b"content", expected)

    try_with(agents, kind, use)
    assert sorted(names_in(tmp_path)) == ["hashed", "unhashed"]


def test_an_upload_can_be_sent_again_from_anywhere(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    async def use(client: AgentClient) -> None:
        opening = [(Tag.UPLOAD, "u"), (Tag.PATH, str(tmp_path / "f")), (Tag.MODE, 0o640), (Tag.SIZE, 6)]
        commit = ((Tag.UPLOAD, "u"), (Tag.DIGEST, hashlib.sha256(b"abcdef").digest()))
        for offset, part, expected in ((0, b"abc", 3), (0, b"abcd", 4), (1, b"bc", 4), (4, b"", 4), (2, b"cdef", 6)):
            await client.request(Kind.UPLOAD, *opening)
            reply = await client.request(Kind.DATA, (Tag.UPLOAD, "u"), (Tag.OFFSET, offset), bulk=part)
            assert reply.fields.number(Tag.OFFSET) == expected
        assert not (tmp_path / "f").exists()
        missing = await client.ask(Kind.DATA, encode_fields([(Tag.UPLOAD, "u"), (Tag.OFFSET, 7)]), b"")
        assert missing.status == Status.CONFLICT
        for _ in range(2):
            await client.request(Kind.COMMIT, *commit)
        assert (tmp_path / "f").read_bytes() == b"abcdef"

    try_with(agents, kind, use)


def test_uploads_are_bounded_and_finished_ones_make_room(agents: ModuleType, tmp_path: Path) -> None:
    async def use(client: AgentClient) -> None:
        async def open_one(name: str) -> None:
            opening = [(Tag.UPLOAD, name), (Tag.PATH, str(tmp_path / name)), (Tag.MODE, 0o640), (Tag.SIZE, 0)]
            await client.request(Kind.UPLOAD, *opening)

        for number in range(64):
            await open_one(f"u{number}")
        with pytest.raises(SandboxRefusedError, match="NO_ROOM"):
            await open_one("one more")
        await client.request(Kind.COMMIT, (Tag.UPLOAD, "u7"), (Tag.DIGEST, hashlib.sha256(b"").digest()))
        await open_one("one more")

    for kind in ("c-unix", "python-unix"):
        try_with(agents, kind, use)
        assert names_in(tmp_path) == ["u7"]
        (tmp_path / "u7").unlink()


def test_an_upload_that_is_cancelled_or_fails_is_given_up(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    async def stuck(scope: anyio.CancelScope) -> AsyncIterator[bytes]:
        yield b"x"
        scope.cancel()
        await anyio.sleep_forever()

    async def failing() -> AsyncIterator[bytes]:
        yield b"x"
        raise EOFError

    async def whole() -> AsyncIterator[bytes]:
        yield b"xy"

    async def use(client: AgentClient) -> None:
        for number in range(65):
            entry = Entry(path=inside(tmp_path, f"cancelled{number}"))
            with anyio.CancelScope() as scope:
                await files.upload(client, entry, stuck(scope), size_bytes=2)
            assert scope.cancelled_caught
        for number in range(65):
            with pytest.raises(EOFError):
                await files.upload(client, Entry(path=inside(tmp_path, f"failed{number}")), failing(), size_bytes=2)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await files.upload(client, Entry(path=inside(tmp_path, "never")), whole(), size_bytes=2)
        await files.upload(client, Entry(path=inside(tmp_path, "whole")), whole(), size_bytes=2)
        assert names_in(tmp_path) == ["whole"], "while the agent lives"
        assert (tmp_path / "whole").read_bytes() == b"xy"

    try_with(agents, kind, use)


def test_an_uploads_id_is_for_one_path_and_size(agents: ModuleType, tmp_path: Path) -> None:
    async def use(client: AgentClient) -> None:
        async def open_one(name: str, size: int) -> Status:
            opening = [(Tag.UPLOAD, "u"), (Tag.PATH, str(tmp_path / name)), (Tag.MODE, 0o640), (Tag.SIZE, size)]
            return Status((await client.ask(Kind.UPLOAD, encode_fields(opening))).status)

        found = [await open_one(name, size) for name, size in (("f", 0), ("g", 0), ("ff", 0), ("f", 1), ("f", 0))]
        assert found == [Status.OK, Status.CONFLICT, Status.CONFLICT, Status.CONFLICT, Status.OK]
        await client.request(Kind.COMMIT, (Tag.UPLOAD, "u"), (Tag.DIGEST, hashlib.sha256(b"").digest()))
        assert await open_one("g", 0) == Status.CONFLICT
        assert names_in(tmp_path) == ["f"]

    for kind in ("c-unix", "python-unix"):
        try_with(agents, kind, use)
        (tmp_path / "f").unlink()


def test_missing_parents_have_the_mode_of_the_protocol(agents: ModuleType, direct_kind: str, tmp_path: Path) -> None:
    entry = encode_fields([(Tag.PATH, str(tmp_path / "a" / "b" / "f")), (Tag.FILE_KIND, 1), (Tag.SIZE, 0)])
    with agents.launch(direct_kind, umask=0o077) as agent:
        peer = agents.bound_peer(agent)
        answer = peer.ask(Kind.PUT, (Tag.ENTRY, entry), (Tag.DIGEST, hashlib.sha256(b"").digest()))
        assert answer.status == Status.OK
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        assert modes.S_IMODE(folder.stat().st_mode) == 0o755


def test_batches_of_long_names_fit_into_frames(agents: ModuleType, tmp_path: Path) -> None:
    long = PurePosixPath(tmp_path, *["d" * 250] * 15)
    paths = [long / f"{number:04d}" for number in range(1500)]

    async def use(client: AgentClient) -> None:
        await files.put(client, [Entry(path=path, content=path.name.encode()) for path in paths])
        contents = await files.fetch(client, paths, limit_bytes=10)
        assert contents == [path.name.encode() for path in paths]
        assert client.cuts == 0

    for kind in ("c-unix", "python-unix"):
        try_with(agents, kind, use)


def test_large_files_stream_through_flat_memory(agents: ModuleType, socket_kind: str, tmp_path: Path) -> None:
    chunk, count = os.urandom(files.CHUNK_BYTES), 100

    async def use() -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(count):
                yield chunk

        async with agents.hold(socket_kind) as (client, agent):
            entry = Entry(path=inside(tmp_path, "large"))
            await files.upload(client, entry, chunks(), size_bytes=count * len(chunk))
            digest = hashlib.sha256()
            async for part in files.download(client, entry.path):
                digest.update(part)
            expected = hashlib.sha256()
            for _ in range(count):
                expected.update(chunk)
            assert digest.digest() == expected.digest()
            if socket_kind == "c-unix":
                status = Path(f"/proc/{agent.process.pid}/status").read_text()
                peak = int(status.split("VmHWM:")[1].split()[0])
                assert peak < 20_000, f"{peak} KB for a file of {count} MiB"

    anyio.run(use)


def test_who_reads_sees_the_old_or_the_new(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    program = "while [ ! -e stop ]; do tr -d '\\n' < file | fold -w1 | sort -u | wc -l; wc -c < file; done | sort -u"
    size = 100_000

    async def use(client: AgentClient) -> None:
        path = inside(tmp_path, "file")
        await files.put(client, [Entry(path=path, content=b"a" * size)])

        async def rewrite() -> None:
            for letter in b"bcdefg":
                await files.put(client, [Entry(path=path, content=bytes([letter]) * size)])
                await anyio.sleep(0.01)
            await files.put(client, [Entry(path=inside(tmp_path, "stop"))])

        async with anyio.create_task_group() as group:
            group.start_soon(rewrite)
            spec = JobSpec(argv=["/bin/sh", "-c", program], cwd=inside(tmp_path), env={"PATH": os.environ["PATH"]})
            end = await run_job(client, spec)
        assert end.streams[1].data.split() == [b"1", str(size).encode()]

    try_with(agents, kind, use)


def test_links_are_replaced_and_removed_never_followed(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    work = tmp_path / "work"
    (work / "deep" / "er").mkdir(parents=True)
    (work / "file").symlink_to(outside / "kept")
    (work / "deep" / "er" / "link").symlink_to(outside)

    async def use(client: AgentClient) -> None:
        await files.put(client, [Entry(path=inside(work, "file"), content=b"new")])
        assert (work / "file").read_bytes() == b"new"
        assert not (work / "file").is_symlink()
        with pytest.raises(OSError, match=r"\w") as caught:
            await files.remove(client, inside(work, "deep"))
        assert caught.value.errno in {errno.ENOTEMPTY, errno.EEXIST}
        await files.remove(client, inside(work, "deep"), recursive=True)
        await files.remove(client, inside(work, "file"))
        await files.remove(client, inside(work, "never was"))
        assert names_in(work) == []
        assert (outside / "kept").read_bytes() == b"kept"

    try_with(agents, kind, use)


def test_stat_tells_what_is_there(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123")
    (tmp_path / "file").chmod(0o751)
    os.utime(tmp_path / "file", ns=(1, 1_700_000_000_123_456_789))
    (tmp_path / "link").symlink_to("file")

    async def use(client: AgentClient) -> None:
        found = await files.stat(client, inside(tmp_path, "file"))
        assert (found.kind, found.mode, found.size_bytes) == (FileKind.FILE, 0o751, 3)
        assert (found.modified_ns, found.uid) == (1_700_000_000_123_456_789, os.getuid())
        assert (await files.stat(client, inside(tmp_path, "link"))).target == "file"
        assert (await files.stat(client, inside(tmp_path, "link"), follows_links=True)).size_bytes == 3
        assert (await files.stat(client, PurePosixPath("/"))).kind == FileKind.FOLDER
        assert (await files.stat(client, PurePosixPath("/dev/null"))).kind == FileKind.OTHER
        with pytest.raises(FileNotFoundError):
            await files.stat(client, inside(tmp_path, "missing"))

    try_with(agents, kind, use)


@needs_root
def test_acting_as_a_user_is_bound_by_that_users_rights(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(modes.S_IMODE(folder.stat().st_mode) | 0o055)
    (tmp_path / "secret").write_bytes(b"root's")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    (tmp_path / "theirs" / "link").symlink_to(tmp_path / "secret")
    acting = Acting(uid=NOBODY, gid=NOBODY)

    async def use(client: AgentClient) -> None:
        for name in ("secret", "theirs/link"):
            with pytest.raises(PermissionError):
                await files.get(client, inside(tmp_path, name), limit_bytes=100, acting=acting)
        for content in (b"x", bytes(2 << 20)):
            with pytest.raises(PermissionError):
                await files.put(client, [Entry(path=inside(tmp_path, "new"), content=content)], acting=acting)
            mine = inside(tmp_path, "theirs", "sub", "new")
            await files.put(client, [Entry(path=mine, content=content)], acting=acting)
            assert Path(mine).stat().st_uid == Path(mine).parent.stat().st_uid == NOBODY
        with pytest.raises(PermissionError):
            await files.remove(client, inside(tmp_path, "secret"), acting=acting)
        stolen = Entry(path=inside(tmp_path, "theirs", "o"), owner=Owner(uid=0, gid=0))
        with pytest.raises(PermissionError):
            await files.put(client, [stolen], acting=acting)
        await files.put(client, [Entry(path=inside(tmp_path, "given"), owner=Owner(uid=NOBODY, gid=7), mode=0o4711)])
        given = (tmp_path / "given").stat()
        assert (given.st_uid, given.st_gid, modes.S_IMODE(given.st_mode)) == (NOBODY, 7, 0o4711)
        assert await files.get(client, inside(tmp_path, "secret"), limit_bytes=100) == b"root's", "rights came back"

    try_with(agents, kind, use)
