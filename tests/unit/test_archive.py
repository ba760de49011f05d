"""Archives are the same bytes for the same entries, come back as they went, and no stranger's does any harm."""

import io
import lzma
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envfarm.errors import TaskError
from envfarm.formats.xz_stream import decompress
from envfarm.images.unpack import unpack_archive
from task_miner.packaging.archive import ArchiveEntry, write_archive

BLOCK = tarfile.BLOCKSIZE
NAME = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=30)
    | st.sampled_from(["caf\udce9", "a" * 120, "-x", " ", "a\\b", "\n"])
).filter(lambda name: name not in {".", ".."} and len(os.fsencode(name)) < 250)


def link(path: str, target: str) -> ArchiveEntry:
    return ArchiveEntry(path, b"", link_target=target)


@st.composite
def entries(draw: st.DrawFn) -> list[ArchiveEntry]:
    """Draw files and links whose paths do not stand in each other's way."""
    found: dict[str, ArchiveEntry] = {}
    for folders, name, content, executable, target in draw(
        st.lists(
            st.tuples(
                st.lists(NAME, max_size=2),
                NAME,
                st.binary(max_size=40),
                st.booleans(),
                st.none() | NAME | st.just(".."),
            ),
            max_size=5,
        )
    ):
        path = "/".join([*(f"folder {part}" for part in folders), f"file {name}"])
        entry = ArchiveEntry(path, content, executable=executable)
        found[path] = entry if target is None else link(path, target)
    return list(found.values())


def unpacked(archive: bytes) -> list[ArchiveEntry]:
    with tempfile.TemporaryDirectory() as name:
        unpack_archive("the.tar.xz", archive, Path(name))
        return [
            link(path.relative_to(name).as_posix(), os.readlink(path))  # noqa: PTH115 -- the text
            if path.is_symlink()
            else ArchiveEntry(
                path.relative_to(name).as_posix(), path.read_bytes(), executable=bool(path.stat().st_mode & 0o100)
            )
            for path in Path(name).rglob("*")
            if path.is_symlink() or not path.is_dir()
        ]


@given(entries(), st.integers(-(1 << 31), 1 << 40), st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_entries_come_back_whatever_their_order_and_names(
    given_entries: list[ArchiveEntry], modified_at: int, chance: random.Random
) -> None:
    archive = write_archive(given_entries, modified_at=modified_at)
    shuffled = list(given_entries)
    chance.shuffle(shuffled)
    assert write_archive(shuffled, modified_at=modified_at) == archive
    assert sorted(unpacked(archive), key=lambda entry: entry.path) == sorted(
        given_entries, key=lambda entry: entry.path
    )


def test_an_archive_tells_nothing_of_this_machine_and_this_moment() -> None:
    archive = write_archive([ArchiveEntry("a", b"x"), link("b", "a")], modified_at=1_700_000_000)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        members = opened.getmembers()
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 1_700_000_000)}
    assert [(m.name, m.mode) for m in members] == [("a", 0o644), ("b", 0o777)]
    assert lzma.decompress(archive)[:1] == b"a"


@pytest.mark.parametrize("path", ["", "/a", "a//b", "../a", "a/..", "a/../b", "a/"])
def test_paths_that_lead_elsewhere_are_never_written(path: str) -> None:
    with pytest.raises(ValueError, match="not a path for an archive"):
        write_archive([ArchiveEntry(path, b"")], modified_at=0)


def test_a_path_is_written_once() -> None:
    with pytest.raises(ValueError, match="there twice"):
        write_archive([ArchiveEntry("a", b""), ArchiveEntry("a", b"x")], modified_at=0)


def header(
    name: str = "a", *, kind: bytes = tarfile.REGTYPE, size: int = 0, more: dict[int, bytes] | None = None
) -> bytes:
    """Return one block of a tar, with a size that tarfile would refuse to write."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[124:136] = bytes([0xFF if size < 0 else 0x80]) + (size & ((1 << 88) - 1)).to_bytes(11, "big")
    block[156:157] = kind
    for place, content in (more or {}).items():
        block[place : place + len(content)] = content
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def extended(headers: dict[str, str]) -> bytes:
    info = tarfile.TarInfo("a")
    info.pax_headers = headers
    return info.tobuf(tarfile.PAX_FORMAT)


def regular(*members: tuple[str, bytes]) -> bytes:
    return b"".join(
        header(name, size=len(content)) + content.ljust(-len(content) % BLOCK + len(content), b"\0")
        for name, content in members
    )


HOLES = {386: b"0" * 11 + b"\0", 398: b"0" * 11 + b"\0", 483: b"\x80" + (1 << 50).to_bytes(11, "big")}
HOSTILE = {
    "a size below nothing": header(size=-BLOCK),
    "a size that leads back to itself": extended({"size": str(-3 * BLOCK)}),
    "a size of an exabyte": header(size=1 << 60),
    "a size of thousands of digits": extended({"size": "9" * 300, "path": "b" * 300}) + header(size=1 << 80),
    "holes of a petabyte": header(kind=tarfile.GNUTYPE_SPARSE, more=HOLES),
    "holes told by a header": extended({"GNU.sparse.map": "0,0", "GNU.sparse.realsize": str(1 << 50)}),
    "a map of holes that is none": extended({"GNU.sparse.map": "a,b,c", "GNU.sparse.size": "x"}),
    "headers of headers": header(kind=tarfile.XHDTYPE) * 3000,
    "names of names": (header(kind=tarfile.GNUTYPE_LONGNAME, size=2) + b"a".ljust(BLOCK, b"\0")) * 3000,
    "a name with a zero": extended({"path": "a\0b"}),
    "a name that is too long": extended({"path": "a" * 400}),
    "no name": extended({"path": "/"}),
    "a dot": header("."),
    "the same file twice": regular(("a", b"1"), ("a", b"2")),
    "a file as a folder": regular(("a", b"1"), ("a/b", b"2")),
    "a folder as a file": header("a", kind=tarfile.DIRTYPE) + regular(("a", b"1")),
    "a link to nothing": header("a", kind=tarfile.SYMTYPE),
    "a fifo": header(kind=tarfile.FIFOTYPE),
    "a block device": header(kind=tarfile.BLKTYPE),
    "an unknown kind": header(kind=b"Z"),
    "half a member": header(size=5 * BLOCK) + b"x" * BLOCK,
    "a wrong checksum": header()[:-12] + b"x" * 12,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_in_one_line_and_writes_nothing_of_size(name: str, tmp_path: Path) -> None:
    archive = lzma.compress(HOSTILE[name] + b"\0" * 2 * BLOCK)
    (tmp_path / "inside").mkdir()
    with pytest.raises(TaskError, match=r"^the\.tar\.xz: ") as caught:
        unpack_archive("the.tar.xz", archive, tmp_path / "inside")
    assert "\n" not in str(caught.value)
    assert sum(path.lstat().st_size for path in tmp_path.rglob("*") if path.is_file()) < BLOCK
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


@given(st.binary(max_size=100) | st.binary(max_size=3 * BLOCK).map(lzma.compress))
@settings(max_examples=60)
def test_any_bytes_are_unpacked_or_refused(archive: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "inside").mkdir()
        try:
            unpack_archive("the.tar.xz", archive, Path(name) / "inside")
        except TaskError as error:
            told = str(error)
        else:
            told = "the.tar.xz: "
        assert told.startswith("the.tar.xz: ")
        assert [path.name for path in Path(name).iterdir()] == ["inside"]


TWO = [ArchiveEntry("a/b", b"content"), link("c", "a")]
WHOLE = write_archive(TWO, modified_at=0)


@given(st.integers(0, 10**6), st.integers(0, 255))
@settings(max_examples=100)
def test_a_damaged_archive_is_refused_or_the_same(place: int, byte: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[place % len(WHOLE)] = byte
    try:
        found = unpacked(bytes(damaged))
    except TaskError:
        return
    assert sorted(found, key=lambda entry: entry.path) == TWO


def test_a_bomb_is_refused_before_it_fills_the_memory() -> None:
    bomb = lzma.compress(b"\0" * 1_000_000)
    assert len(bomb) < 1000
    assert decompress(bomb, most_bytes=1_000_000) == b"\0" * 1_000_000
    for most in (1, 65_536, 999_999):
        with pytest.raises(ValueError, match="larger than any task"):
            decompress(bomb, most_bytes=most)
    with pytest.raises(ValueError, match="cut short"):
        decompress(bomb[:-13])


def test_a_full_disk_is_not_the_archives_fault(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(write_archive([ArchiveEntry("a", os.urandom(1 << 18))], modified_at=0))
    program = (
        "import pathlib, sys\n"
        "from envfarm.images.unpack import unpack_archive\n"
        "unpack_archive('x', pathlib.Path(sys.argv[1]).read_bytes(), pathlib.Path('/mnt'))\n"
    )
    box = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--size", "65536", "--tmpfs", "/mnt"]
    done = subprocess.run(
        [*box, sys.executable, "-c", program, str(tmp_path / "archive")], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1].startswith("OSError: [Errno 28]"), done.stderr
