"""Builds the agent's programs from their source, byte for byte the same wherever it runs: ``build_agent.py [FOLDER]``.

The compiler is pinned by pyproject.toml (ziglang, group dev). Without a folder the programs of the package are made.
"""

import subprocess
import sys
from pathlib import Path

AGENT = Path(__file__).resolve().parents[1] / "envfarm" / "sandbox" / "agent"
MACHINES = ("x86_64", "aarch64")
MOST_BYTES = 100_000
FLAGS = [
    *("-std=gnu11", "-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror", "-fno-ident"),
    *("-fno-asynchronous-unwind-tables", "-ffunction-sections", "-fdata-sections"),
    *("-Wl,--gc-sections", "-Wl,--build-id=none"),
]


def build(machine: str, target: Path) -> None:
    """Compile and link the program for one kind of machine."""
    sources = sorted(path.name for path in (AGENT / "source").glob("*.c"))
    words = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-musl", *FLAGS, *sources]
    subprocess.run([*words, "-o", str(target)], cwd=AGENT / "source", check=True)
    target.chmod(0o755)
    size = target.stat().st_size
    if size > MOST_BYTES:
        sys.exit(f"{target} has {size} bytes; the agent has to stay within {MOST_BYTES}")


def main() -> None:
    """Build for every kind of machine."""
    folder = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else AGENT / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    for machine in MACHINES:
        build(machine, folder / f"envfarm-agent-{machine}")


if __name__ == "__main__":
    main()
