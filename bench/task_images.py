"""Images of tasks: bytes that each task adds, and seconds to build one on layers that are there.

Beside it, in the same run: the engine alone taking the finished archive of the same layer.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import anyio

from envfarm.formats.harbor import read_package
from envfarm.images.builder import ImageWorks, build_task_image, made_image, send
from envfarm.images.environment_store import EnvironmentStore
from envfarm.sandbox.docker.base_image import ensure_base
from envfarm.sandbox.docker.engine import open_engine
from envfarm.sandbox.docker.options import OWN_BASE
from envfarm.sandbox.local.provider import open_local_provider

BAR_BYTES = 5e6


async def measure(tasks: list[Path], cache: Path) -> None:
    """Build, remove and build again; print a table."""
    with open_engine() as engine:
        base = ensure_base(engine, OWN_BASE, print)
        async with open_local_provider({}) as provider:
            works = ImageWorks(engine=engine, base=base, provider=provider, cache_folder=cache, report=print)
            sizes, builds, floors = [], [], []
            packages = [read_package(path) for path in tasks]
            for package in packages:  # all first: an engine drops shared layers with the last image that has them
                await build_task_image(package, works)
            for package in packages:
                built = await build_task_image(package, works)
                environment = EnvironmentStore(cache, provider).path_of(package.task.environment)
                with made_image(package, works, environment) as made:
                    engine.remove_image(built.reference)
                    started = time.perf_counter()
                    send(made, works)
                    floors.append(time.perf_counter() - started)
                engine.remove_image(built.reference)
                started = time.perf_counter()
                again = await build_task_image(package, works)
                builds.append(time.perf_counter() - started)
                sizes.append(built.layers[-1].size_bytes)
                same = "same id" if again.image_id == built.image_id else "ANOTHER ID"
                print(f"{built.task_id:32} {sizes[-1] / 1e6:6.2f} MB  {builds[-1]:6.2f} s  {same}")
    middle = statistics.median(sizes) / 1e6
    print(f"largest {max(sizes) / 1e6:.2f} MB (bar {BAR_BYTES / 1e6:.0f} MB), median {middle:.2f} MB")
    ours, floor = statistics.median(builds), statistics.median(floors)
    print(f"build {ours:.2f} s, of which the engine takes {floor:.2f} s: {ours / floor:.2f} x")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+", type=Path)
    parser.add_argument("--cache", type=Path, help="a cache with the tasks' environments; an empty one unless given")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="envfarm-bench-") as folder:
        anyio.run(measure, chosen.tasks, (chosen.cache or Path(folder)).absolute())


if __name__ == "__main__":
    main()
