"""The history scan against the bare `git log` that yields the same facts: time, and memory as history grows."""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

COMMITS = 10_000
SCAN = """
import resource, sys, time
from pathlib import Path
from task_miner.candidate import candidate_of
from task_miner.history import iterate_units
from task_miner.languages.python_paths import PythonPaths
rules, started = PythonPaths(), time.perf_counter()
units = candidates = 0
for unit in iterate_units(Path(sys.argv[1]), sys.argv[2]):
    units += 1
    candidates += not isinstance(candidate_of(unit, rules, "p"), str)
seconds = time.perf_counter() - started
print(units, candidates, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
LOG = ["log", "--first-parent", "--diff-merges=first-parent", "--root", "--raw", "-z", "--no-abbrev", "--no-renames"]


def synthetic_history(commits: int) -> Iterator[bytes]:
    """Yield a fast-import stream: each commit changes a source and, every third time, a test."""
    for number in range(commits):
        message = f"Fix the thing number {number} (#{number})\n\nwords " * 3
        yield f"commit refs/heads/main\ncommitter A <a@example.org> {1_500_000_000 + number * 600} +0000\n".encode()
        yield f"data {len(message)}\n{message}\n".encode()
        for path in [f"pkg/m{number % 97}.py", *([f"tests/test_m{number % 97}.py"] if number % 3 == 0 else [])]:
            content = f"value = {number}\n"
            yield f"M 100644 inline {path}\ndata {len(content)}\n{content}\n".encode()


def make_repository(folder: Path, commits: int) -> Path:
    """Return a bare repository with so many commits."""
    repository = folder / f"history-{commits}.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(repository)], check=True)
    subprocess.run(
        ["git", f"--git-dir={repository}", "fast-import", "--quiet"],
        input=b"".join(synthetic_history(commits)),
        check=True,
    )
    return repository


def scan(repository: Path) -> tuple[int, int, float, int]:
    """Return units, candidates, seconds and peak memory (KiB) of the scan, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", SCAN, str(repository), "HEAD"], capture_output=True, text=True, check=True
    )
    units, candidates, seconds, memory = done.stdout.split()
    return int(units), int(candidates), float(seconds), int(memory)


def bare_log(repository: Path) -> float:
    """Return the seconds of the bare git log with the same facts, its output thrown away."""
    started = time.perf_counter()
    argv = ["git", f"--git-dir={repository}", *LOG, "--format=%H%x00%P%x00%ct%x00%B%x00", "HEAD"]
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def measure(repository: Path, runs: int) -> None:
    """Print one line about a repository."""
    pairs = [(scan(repository), bare_log(repository)) for _ in range(runs)]
    seconds = statistics.median(found[2] for found, _ in pairs)
    ratio = statistics.median(found[2] / floor for found, floor in pairs)
    units, candidates, _, memory = pairs[0][0]
    counts = f"{units:>7} units {candidates:>6} candidates"
    print(f"{counts}  {seconds:6.2f} s  {ratio:5.2f} x git log  {memory / 1024:6.1f} MiB")


def main() -> None:
    """Measure a synthetic history at two sizes, and repositories that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repo", type=Path, action="append", default=[], help="a repository's git folder; may repeat")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print(f"bars: at most 2 x git log, {COMMITS} commits in at most 10 s, memory that does not grow with history")
    with tempfile.TemporaryDirectory() as folder:
        for commits in (COMMITS // 10, COMMITS):
            measure(make_repository(Path(folder), commits), options.runs)
    for repository in options.repo:
        measure(repository, options.runs)


if __name__ == "__main__":
    main()
