"""Archives of strangers write nothing outside of their folder."""

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.errors import TaskError
from envfarm.images.unpack import FolderCache, unpack_archive
from task_miner.packaging.archive import ArchiveEntry, write_archive


def tar(*members: tuple[str, bytes, dict[str, object]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, content, attributes in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc"}


@pytest.mark.parametrize(
    "archive",
    [
        tar(("../out", b"x", {})),
        tar(("/absolute", b"x", {})),
        tar(("a/../../out", b"x", {})),
        tar(("link", b"", LINK), ("link/passwd", b"x", {})),
        tar(("device", b"", {"type": tarfile.CHRTYPE})),
        tar(("a", b"x", {}), ("hard", b"", {"type": tarfile.LNKTYPE, "linkname": "a"})),
        tar(("a", b"x", {}))[:-20],
        b"nothing of the kind",
    ],
    ids=["climbs", "absolute", "climbs inside", "through a link", "device", "hard link", "cut", "noise"],
)
def test_hostile_and_damaged_archives_are_refused_by_name(archive: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    with pytest.raises(TaskError, match=r"^the\.tar\.xz: "):
        unpack_archive("the.tar.xz", archive, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5}){0,2}", fullmatch=True), st.binary(max_size=50), max_size=6)
)
def test_what_is_written_is_unpacked(files: dict[str, bytes]) -> None:
    import tempfile

    kept = {path: data for path, data in files.items() if not any(other.startswith(f"{path}/") for other in files)}
    entries = [ArchiveEntry(path, data) for path, data in kept.items()]
    with tempfile.TemporaryDirectory() as name:
        unpack_archive("x", write_archive(entries, modified_at=0), Path(name))
        found = {str(path.relative_to(name)): path.read_bytes() for path in Path(name).rglob("*") if path.is_file()}
    assert found == kept


def test_a_folder_appears_once_and_whole(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path)
    folder = cache.path_of(b"bytes")
    for content in ("first", "second"):
        with cache.filled(folder) as partial:
            (partial / "file").write_text(content)
    assert (folder / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_folder_that_could_not_be_filled_leaves_nothing(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path)
    with pytest.raises(TaskError), cache.filled(cache.path_of(b"bytes")) as partial:
        unpack_archive("x", b"damaged", partial)
    assert list(tmp_path.iterdir()) == []
