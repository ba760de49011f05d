"""What is packed is unpacked, whatever is wrong around it, and nothing is unpacked without end."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.images import packed_contents
from envfarm.images.packed_contents import unpacked_contents

TEXT = b"some lines of text\n" * 200
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda text: lzma.compress(text, format=lzma.FORMAT_ALONE),
    "zlib": zlib.compress,
    "zlib, hardly": lambda text: zlib.compress(text, 0),
}


def as_tar(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("a")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def as_zip(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", content)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", PACKERS)
def test_a_packed_stream_is_unpacked_also_cut_off_or_followed_by_another(kind: str) -> None:
    pack = PACKERS[kind]
    assert list(unpacked_contents(pack(TEXT))) == [TEXT]
    assert TEXT[:1000] in b"".join(unpacked_contents(pack(TEXT)[:-3])) or kind == "bzip2"  # of whole blocks only
    assert b"".join(unpacked_contents(pack(TEXT) + b"noise")).startswith(TEXT)
    if kind in {"gzip", "bzip2", "xz"}:
        assert b"".join(unpacked_contents(pack(TEXT) + pack(b"second"))) == TEXT + b"second"


def test_archives_are_unpacked_within_each_other_to_a_depth() -> None:
    nested = TEXT
    for pack in (as_zip, gzip.compress, as_tar):
        nested = pack(nested)
    assert TEXT in list(unpacked_contents(nested))
    for _ in range(6):
        nested = gzip.compress(nested)
    assert len(list(unpacked_contents(nested))) == 4


def test_a_bomb_is_unpacked_up_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_contents, "_MOST_BYTES", 3 << 20)
    assert [len(text) for text in unpacked_contents(gzip.compress(bytes(50 << 20)))] == [3 << 20]
    assert [len(text) for text in unpacked_contents(as_zip(bytes(50 << 20)))] == [3 << 20]


@given(st.binary(max_size=2000), st.sampled_from(sorted(PACKERS)), st.integers(0, 300), st.binary(max_size=8))
def test_noise_is_no_archive_and_no_error(text: bytes, kind: str, place: int, noise: bytes) -> None:
    packed = bytearray(PACKERS[kind](as_tar(as_zip(text))))
    packed[place : place + len(noise)] = noise
    list(unpacked_contents(bytes(packed)))
    list(unpacked_contents(text))
