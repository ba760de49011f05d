"""Time of `envfarm --help` against `python -c pass` and `python -c "import typer"`, whole processes, in turn."""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

BAR_SECONDS = 0.25


def median_seconds(argv: list[str], runs: int) -> float:
    """Return the median wall-clock time of a command."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    floor = median_seconds([sys.executable, "-c", "pass"], runs)
    library = median_seconds([sys.executable, "-c", "import typer"], runs)
    ours = median_seconds([str(Path(sys.executable).with_name("envfarm")), "--help"], runs)
    print(f"python -c pass          {floor:.3f} s")
    print(f"python -c 'import typer' {library:.3f} s")
    print(f"envfarm --help          {ours:.3f} s  (bar {BAR_SECONDS} s)  {ours / library:.2f} x importing the library")


if __name__ == "__main__":
    main()
