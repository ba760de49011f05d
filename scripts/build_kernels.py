"""Builds the model's kernels from their source, byte for byte the same wherever it runs: ``build_kernels.py [FOLDER]``.

The compiler is pinned by pyproject.toml (ziglang, group dev). Without a folder the libraries of the package are made.
"""

import subprocess
import sys
from pathlib import Path

from envfarm.model.kernels.libraries import KINDS, SOURCE, Kind, library_path

MOST_BYTES = 250_000
FLAGS = [
    *("-std=gnu11", "-O3", "-shared", "-fPIC", "-s", "-Wall", "-Wextra", "-Werror"),
    *("-fvisibility=hidden", "-fno-ident", "-fno-math-errno", "-fno-asynchronous-unwind-tables"),
    "-ffp-contract=off",  # what is fused is written so: a token's bits must not depend on a compiler's mood
    "-Wl,--build-id=none",
]


def build(kind: Kind, target: Path) -> None:
    """Compile and link the library for one kind of processor."""
    sources = sorted(path.name for path in SOURCE.glob("*.c"))
    words = [sys.executable, "-m", "ziglang", "cc", *kind.target, *FLAGS, *sources]
    subprocess.run([*words, "-o", str(target)], cwd=SOURCE, check=True)
    size = target.stat().st_size
    if size > MOST_BYTES:
        sys.exit(f"{target} has {size} bytes; a library has to stay within {MOST_BYTES}")


def main() -> None:
    """Build for every kind of processor."""
    for kind in KINDS:
        target = Path(sys.argv[1]).resolve() / library_path(kind).name if len(sys.argv) > 1 else library_path(kind)
        target.parent.mkdir(parents=True, exist_ok=True)
        build(kind, target)


if __name__ == "__main__":
    main()
