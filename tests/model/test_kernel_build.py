"""The kernels' libraries are what their source says, and need the C library only; other kinds of machines agree."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envfarm.model.kernels.libraries import KINDS, SOURCE, library_path

ROOT = Path(__file__).parents[2]
SMALL_MODEL = ROOT / "tests" / "data" / "kernels" / "small_model.c"
FLAGS = "-std=gnu11", "-O2", "-ffp-contract=off", "-static"


def test_libraries_are_built_again_byte_for_byte(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "build_kernels.py", tmp_path], check=True, capture_output=True)
    for kind in KINDS:
        shipped = library_path(kind)
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (shipped, tmp_path / shipped.name)]
        assert digests[0] == digests[1], f"{shipped} is not its source's: run scripts/build_kernels.py"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_libraries_ask_for_the_c_library_only(kind: object) -> None:
    content = library_path(kind).read_bytes()  # type: ignore[arg-type]
    assert len(content) <= 250_000
    assert content.count(b".so.") == 1
    assert b"libc.so.6" in content


def build_small_model(target: str, features: str, program: Path) -> None:
    words = [sys.executable, "-m", "ziglang", "cc", "-target", target, *([features] if features else []), *FLAGS]
    sources = sorted(str(path) for path in SOURCE.glob("*.c"))
    subprocess.run([*words, "-I", str(SOURCE), str(SMALL_MODEL), *sources, "-o", str(program)], check=True)


def numbers_of(words: list[str]) -> list[list[float]]:
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return [[float(number) for number in line.split()] for line in done.stdout.splitlines()]


def test_another_kind_of_machine_computes_the_same(tmp_path: Path) -> None:
    """What runs here is compared with torch elsewhere; the other kind runs in an emulator."""
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("qemu-aarch64-static is missing: apt-get install qemu-user-static")
    build_small_model("x86_64-linux-musl", "-mcpu=x86_64+avx2+fma", tmp_path / "x86")
    build_small_model("aarch64-linux-musl", "", tmp_path / "arm")
    emulators = [["qemu-x86_64-static"] if shutil.which("qemu-x86_64-static") else [], ["qemu-aarch64-static"]]
    ours, theirs = (
        numbers_of([*words, str(tmp_path / name)]) for words, name in zip(emulators, ("x86", "arm"), strict=True)
    )
    assert len(ours) == 11
    assert len({tuple(line) for line in ours}) == 11
    for one, other in zip(ours, theirs, strict=True):
        assert other == pytest.approx(one, abs=2e-5, rel=1e-4)
