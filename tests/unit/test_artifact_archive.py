"""What a box packed is carried over only as far as it lies in the artifact and is harmless."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.foreign.artifact_archive import clean_archive

SOURCE = PurePosixPath("/app/out")


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.uid = kind, link, mode, 77
    info.size = len(name) if kind == tarfile.REGTYPE else 0
    return info


def pack(members: Sequence[tarfile.TarInfo]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for info in members:
            archive.addfile(info, io.BytesIO(info.name.encode()[: info.size]) if info.size else None)
    return packed.getvalue()


def cleaned(members: Sequence[tarfile.TarInfo], exclude: Sequence[str] = ()) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(clean_archive(pack(members), SOURCE, exclude))) as archive:
        return {info.name: info for info in archive}


@pytest.mark.parametrize(
    "info",
    [
        member("tests/test.sh"),
        member("../etc/passwd"),
        member("app/out/../../tests/test.sh"),
        member("app/output/x"),
        member("app/out/link", tarfile.SYMTYPE, link="/etc/passwd"),
        member("app/out/link", tarfile.SYMTYPE, link="../../etc/passwd"),
        member("app/out", tarfile.SYMTYPE, link="."),
        member("app/out/device", tarfile.CHRTYPE),
        member("app/out/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda info: f"{info.name} {info.linkname}",
)
def test_what_is_elsewhere_or_leads_elsewhere_stays_behind(info: tarfile.TarInfo) -> None:
    assert set(cleaned([info, member("app/out/fine")])) == {"app/out/fine"}


def test_files_folders_and_links_inside_come_without_owner_and_set_user_bits() -> None:
    found = cleaned(
        [
            member("app/out", tarfile.DIRTYPE, mode=0o700),
            member("/app/out/program", mode=0o4755),
            member("app/out/deep/link", tarfile.SYMTYPE, link="../program"),
            member("app/out/hard", tarfile.LNKTYPE, link="/app/out/program"),
        ]
    )
    assert set(found) == {"app/out", "app/out/program", "app/out/deep/link", "app/out/hard"}
    assert (found["app/out/program"].mode, found["app/out/program"].uid) == (0o755, 0)
    assert found["app/out/hard"].isreg()


def test_what_lies_below_a_link_or_is_reached_through_one_stays_behind() -> None:
    """By its text such a link stays inside; where it really lies, it leads to the tests of the box that judges."""
    below = [
        member("app/out/here", tarfile.SYMTYPE, link="."),
        member("app/out/here/here/answer", tarfile.SYMTYPE, link="../../tests/expected"),
        member("app/out/here/file"),
    ]
    assert set(cleaned(below)) == {"app/out/here"}
    through = [
        member("app/out/a/b/up", tarfile.SYMTYPE, link="../.."),
        member("app/out/answer", tarfile.SYMTYPE, link="a/b/up/../../tests/expected"),
        member("app/out/fine", tarfile.SYMTYPE, link="a/b/up/other"),
    ]
    assert set(cleaned(through)) == {"app/out/a/b/up", "app/out/fine"}


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40), "GNU.sparse.name": "x"},
        {"size": "9" * 30},
    ],
    ids=["holes", "size"],
)
def test_a_file_that_says_it_is_huge_takes_no_memory(headers: dict[str, str]) -> None:
    info = member("app/out/file")
    info.size, info.pax_headers = 512, {**headers, "GNU.sparse.name": "app/out/file"} if len(headers) > 1 else headers
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b"0\n0\n".ljust(512, b"\0")))
    with pytest.raises(ValueError, match="no archive"):
        clean_archive(packed.getvalue(), SOURCE, limit_bytes=1 << 20)


def test_hard_links_count_as_often_as_they_are_there() -> None:
    members = [
        member("app/out/" + "x" * 80),
        *(member(f"app/out/{n}", tarfile.LNKTYPE, link="app/out/" + "x" * 80) for n in range(9)),
    ]
    assert len(clean_archive(pack(members), SOURCE, limit_bytes=10 * 88)) > 880
    with pytest.raises(ValueError, match="more than may be carried"):
        clean_archive(pack(members), SOURCE, limit_bytes=10 * 88 - 1)


@pytest.mark.parametrize("time", ["nan", "inf", "-1", "1e300"])
def test_a_time_that_is_none_is_dropped(time: str) -> None:
    info = member("app/out/file")
    info.pax_headers = {"mtime": time}
    assert cleaned([info])["app/out/file"].mtime == 0


def test_the_whole_root_holds_nothing_above_it() -> None:
    archive = clean_archive(pack([member("../up"), member(".."), member("etc/x")]), PurePosixPath("/"))
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        assert found.getnames() == ["etc/x"]


def test_excluded_names_stay_behind_with_all_below_them() -> None:
    members = [member(f"app/out/{name}") for name in ("a.o", "b.c", "cache/x", "deep/cache/y", "deep/z.o")]
    assert set(cleaned(members, ["*.o", "cache"])) == {"app/out/b.c"}


def test_no_archive_is_told() -> None:
    with pytest.raises(ValueError, match="no archive"):
        clean_archive(b"x" * 1024, SOURCE)


@given(
    st.lists(
        st.tuples(st.text("ab./", min_size=1, max_size=12), st.text("ab./", max_size=12), st.booleans()), max_size=8
    )
)
def test_nothing_ever_leads_out_of_the_artifact(names: list[tuple[str, str, bool]]) -> None:
    members = [
        member(f"app/out/{name}", tarfile.SYMTYPE if is_link else tarfile.REGTYPE, link=link)
        for name, link, is_link in names
    ]
    for name, info in cleaned(members).items():
        assert name == "app/out" or name.startswith("app/out/")
        assert ".." not in PurePosixPath(name).parts
        assert not info.linkname.startswith("/")
