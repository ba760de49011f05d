"""Mining real libraries: valid share, seconds per published task, overhead over the bare test runs, folder sizes.

Each repository is mined twice: cold, then again from candidates with warm environments, which is what is timed. The sum
of bare test runs is what the boxes' own clocks say of the commands that ran tests; nothing else is in it.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from measuring.metering import Meter, open_metered

from task_miner.mine import mine
from task_miner.options import MineOptions
from task_miner.report import MineReport, SilentObserver

BARS = "bars: valid share 80 %; 15 s per published task; cores x wall at most 1.5 x bare test runs; 5 MB a folder"


def run(repo: str, out: Path, cache: Path, asked: argparse.Namespace, sandbox: str) -> tuple[MineReport, Meter]:
    """Mine once and return the report and the meter."""
    meter = Meter()
    options = MineOptions(repo=repo, out=out, cache_folder=cache, limit=asked.limit, jobs=asked.jobs)
    return anyio.run(mine, options, partial(open_metered, meter, sandbox), SilentObserver()), meter


def largest_folder(out: Path) -> int:
    """Return the bytes of the largest task folder."""
    sizes = [
        sum(file.stat().st_size for file in task.rglob("*") if file.is_file()) for task in (out / "tasks").glob("*")
    ]
    return max(sizes, default=0)


def measure(repo: str, cache: Path, options: argparse.Namespace, sandbox: str) -> dict[str, Any]:
    """Mine a repository cold and warm in a sandbox, and return its row."""
    jobs, keep = options.jobs, options.keep
    name = Path(repo).parent.name.split("+")[-1] if repo.endswith("/repo") else Path(repo).name
    with tempfile.TemporaryDirectory(prefix="envfarm-bench-") as scratch:
        cold = None if options.warm else run(repo, Path(scratch) / "cold", cache, options, sandbox)[0]
        out = (keep / name) if keep else Path(scratch) / "warm"
        warm, meter = run(repo, out, cache, options, sandbox)
        size = largest_folder(out)
    share = warm.published / warm.candidates if warm.candidates else 0.0
    return {
        "repo": name,
        "sandbox": sandbox,
        "candidates": warm.candidates,
        "published": warm.published,
        "share": round(share, 3),
        "rejected": warm.rejected,
        "cold_seconds": round(cold.seconds, 1) if cold else None,
        "warm_seconds": round(warm.seconds, 1),
        "seconds_per_task": round(warm.seconds / warm.published, 2) if warm.published else None,
        "overhead": round(jobs * warm.seconds / meter.test_seconds, 2) if meter.test_seconds else None,
        "test_runs": meter.test_runs,
        "largest_folder_kib": size >> 10,
    }


def main() -> None:
    """Mine and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repo", nargs="+", help="clones, git URLs, or pypi:NAME[A..B]")
    parser.add_argument("--limit", type=int, default=20, help="candidates per repository, newest first")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, help="cache folder to use; a fresh one otherwise")
    parser.add_argument(
        "--warm", action="store_true", help="the --cache holds the environments: do not mine cold first"
    )
    parser.add_argument("--keep", type=Path, help="folder that keeps the published tasks")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.add_argument(
        "--sandbox", nargs="+", default=["local"], help="which providers, each beside the first: local, docker"
    )
    options = parser.parse_args()
    print(BARS, file=sys.stderr)
    rows = []
    with tempfile.TemporaryDirectory(prefix="envfarm-cache-") as fresh:
        for repo in options.repo:
            first: dict[str, Any] | None = None
            for sandbox in options.sandbox:
                started = time.monotonic()
                row = measure(repo, options.cache or Path(fresh), options, sandbox)
                rows.append(row)
                print(json.dumps(row) if options.json else _line(row), flush=True)
                print(f"  ({time.monotonic() - started:.0f} s)", file=sys.stderr)
                if first and first["seconds_per_task"] and row["seconds_per_task"]:
                    ratio = row["seconds_per_task"] / first["seconds_per_task"]
                    print(f"  {sandbox}: {ratio:.2f} x {first['sandbox']} (bar 1.5 x)", file=sys.stderr)
                first = first or row
    published, candidates = sum(row["published"] for row in rows), sum(row["candidates"] for row in rows)
    each = [row["seconds_per_task"] for row in rows if row["seconds_per_task"]]
    over = [row["overhead"] for row in rows if row["overhead"]]
    print(
        f"all: {published} of {candidates} candidates = {published / max(candidates, 1):.0%}; median of "
        f"{statistics.median(each):.1f} s per task, overhead {statistics.median(over):.2f} x bare test runs"
    )


def _line(row: dict[str, Any]) -> str:
    fallen = ", ".join(f"{code} {count}" for code, count in row["rejected"].items()) or "-"
    return (
        f"{row['repo']:<18} {row['sandbox']:<7} {row['published']:>3}/{row['candidates']:<3} {row['share']:>6.0%}  "
        f"{row['seconds_per_task'] or 0:>6.2f} s/task  {row['overhead'] or 0:>5.2f} x  "
        f"{row['largest_folder_kib']:>5} KiB  {fallen}"
    )


if __name__ == "__main__":
    main()
