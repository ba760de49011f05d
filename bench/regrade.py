"""Grades the true fix of published tasks again and again, in shuffled order, with the clock as it is or moved ahead.

The clock is moved by libfaketime (Debian: apt-get install libfaketime), preloaded into every program of the box.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import msgspec

from envfarm.formats.harbor import read_package
from envfarm.grading.grade import grade
from envfarm.images import prepare_image
from envfarm.records.image import Image
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import TaskPackage
from envfarm.sandbox.contract import LeaseRequest, Sandbox, SandboxProvider
from envfarm.sandbox.local.provider import open_local_provider

LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
)


class ClockProvider:
    """A provider whose boxes see the clock moved."""

    def __init__(self, inner: SandboxProvider, days: float, library: str) -> None:
        """Take the provider, and by how much the clock is moved."""
        self.name = inner.name
        self._inner = inner
        self._variables = {"LD_PRELOAD": library, "FAKETIME": f"+{days}d", "DONT_FAKE_MONOTONIC": "1"}

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Sandbox]:
        """Lease a box whose programs preload the library."""
        variables = {**request.image.environment_variables, **self._variables}
        image: Image = msgspec.structs.replace(request.image, environment_variables=variables)
        async with self._inner.lease(replace(request, image=image)) as sandbox:
            yield sandbox


async def regrade(
    packages: Sequence[TaskPackage], times: int, days: float, cache: Path
) -> dict[str, list[float | None]]:
    """Return the rewards of each task's true fix; None for a grading without reward."""
    rewards: dict[str, list[float | None]] = {package.task.task_id: [] for package in packages}
    order = [package for package in packages for _ in range(times)]
    random.Random(7).shuffle(order)  # noqa: S311 -- an order, not a secret
    async with open_local_provider({}) as provider:
        images = {p.task.task_id: await prepare_image(p, provider=provider, cache_folder=cache) for p in packages}
        library = next((name for name in LIBRARIES if Path(name).is_file()), None)
        if days and library is None:
            sys.exit("libfaketime is missing: apt-get install libfaketime")
        boxes = ClockProvider(provider, days, library) if library and days else provider
        for package in order:
            name = package.task.task_id
            oracle = Submission(task_id=name, kind=SubmissionKind.ORACLE)
            verdict = await grade(package, oracle, provider=boxes, image=images[name])
            rewards[name].append(verdict.reward)
            for part in verdict.components if verdict.reward == 0 else ():
                if part.value < 1.0 and part.evidence.get("role") != "note":
                    print(f"{name}: {part.name}: {part.rationale}", flush=True)
    return rewards


def main() -> None:
    """Grade and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+", type=Path, help="task folders, or folders of task folders")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--days", type=float, default=7.0, help="days that the clock is moved ahead; 0 for not at all")
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    folders = [f.parent for path in options.tasks for f in [*path.glob("task.toml"), *path.rglob("*/task.toml")]]
    packages = [read_package(folder) for folder in dict.fromkeys(folders)]
    with tempfile.TemporaryDirectory() as fresh:
        rewards = anyio.run(regrade, packages, options.times, options.days, options.cache or Path(fresh))
    steady = [name for name, found in rewards.items() if set(found) == {1.0}]
    for name, found in rewards.items():
        if name not in steady:
            print(f"{name}: {found}")
    share = len(steady) / max(len(rewards), 1)
    counts = f"{len(steady)} of {len(rewards)} tasks scored 1.0 in each of {options.times} gradings"
    print(f"{counts}: {share:.1%} (bar 99.5 %)")


if __name__ == "__main__":
    main()
