"""The kernels' libraries are what their source says, and need the C library only; other kinds of machines agree."""

import hashlib
import shutil
import subprocess
import sys
from array import array
from pathlib import Path

import pytest

from envfarm.model.kernels.libraries import KINDS, SOURCE, Kind, library_path, usable_kinds

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "tests" / "data" / "kernels"
FLAGS = "-std=gnu11 -O3 -fno-math-errno -ffp-contract=off -static -nostdlib -ffreestanding".split()  # noqa: SIM905 -- a list


def test_libraries_are_built_again_byte_for_byte(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "build_kernels.py", tmp_path], check=True, capture_output=True)
    for kind in KINDS:
        shipped = library_path(kind)
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (shipped, tmp_path / shipped.name)]
        assert digests[0] == digests[1], f"{shipped} is not its source's: run scripts/build_kernels.py"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_libraries_ask_for_the_c_library_only(kind: Kind) -> None:
    content = library_path(kind).read_bytes()
    assert len(content) <= 250_000
    assert content.count(b".so.") == 1
    assert b"libc.so.6" in content


def build_alone(source: str, target: tuple[str, ...], program: Path) -> None:
    folder = PROGRAMS / "alone"
    sources = [PROGRAMS / source, *folder.glob("*.c"), *SOURCE.glob("*.c")]
    words = [sys.executable, "-m", "ziglang", "cc", *target, *FLAGS, "-I", str(SOURCE), "-I", str(folder)]
    subprocess.run([*words, *map(str, sorted(sources)), "-o", str(program)], check=True)


def numbers_of(words: list[str]) -> list[float]:
    done = subprocess.run(words, check=True, capture_output=True)
    return list(array("f", done.stdout))


@pytest.mark.parametrize(
    ("source", "count"),
    [("small_model.c", 10 * (3 + 97 + 6) + 2), ("training_pieces.c", 99_764)],
    ids=lambda part: part,
)
def test_another_kind_of_machine_computes_the_same_bits(tmp_path: Path, source: str, count: int) -> None:
    """What runs here is compared with torch elsewhere; the other kind runs in an emulator."""
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("qemu-aarch64-static is missing: apt-get install qemu-user-static")
    here = next((kind for kind in usable_kinds() if kind.name != "neon"), None)
    if here is None:
        pytest.skip("this processor has neither AVX2 nor AVX-512: use one that has")
    features = [word for word in here.target if word.startswith("-mcpu")]
    build_alone(source, ("-target", "x86_64-linux-none", *features), tmp_path / "x86")
    build_alone(source, ("-target", "aarch64-linux-none"), tmp_path / "arm")
    ours, theirs = numbers_of([str(tmp_path / "x86")]), numbers_of(["qemu-aarch64-static", str(tmp_path / "arm")])
    assert len(ours) == count
    assert len(set(ours)) > 0.4 * count
    assert theirs == ours
