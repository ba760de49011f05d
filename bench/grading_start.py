"""What a grading costs beyond the run of the tests, in containers from built images beside local jails, in turn.

    envfarm images build TASKS
    bench/grading_start.py TASKS... --times 5

No change is graded, which is one box and one run of the tests. The overhead is the wall-clock time of the whole grading
less what the box's own clock says of that run.
"""

import argparse
import statistics
import time
from contextlib import AsyncExitStack
from os import environ
from pathlib import Path

import anyio
from measuring.metering import Meter, open_metered

from envfarm.formats.harbor import read_package
from envfarm.grading.grade import grade
from envfarm.images import find_image, prepare_image
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import TaskPackage
from envfarm.settings import load_settings

SANDBOXES = ("docker", "local")
BAR_SECONDS = 0.3


async def overheads(package: TaskPackage, times: int, cache: Path) -> dict[str, list[float]]:
    """Return the seconds of each grading beyond its run of the tests, by sandbox."""
    found: dict[str, list[float]] = {name: [] for name in SANDBOXES}
    nothing = Submission(task_id=package.task.task_id, kind=SubmissionKind.NO_OP)
    async with AsyncExitStack() as stack:
        meters = {name: Meter() for name in SANDBOXES}
        providers = {name: await stack.enter_async_context(open_metered(meters[name], name)) for name in SANDBOXES}
        images = {name: await find_image(package, providers[name], cache) for name in SANDBOXES}
        for name in SANDBOXES:
            images[name] = images[name] or await prepare_image(package, provider=providers[name], cache_folder=cache)
        for number in range(times + 1):
            for name, provider in providers.items():
                image = images[name]
                assert image is not None
                before, started = meters[name].test_seconds, time.perf_counter()
                verdict = await grade(package, nothing, provider=provider, image=image)
                seconds = time.perf_counter() - started - (meters[name].test_seconds - before)
                assert verdict.reward == 0, verdict
                if number:  # the first one finds nothing in the machine's caches
                    found[name].append(seconds)
        kind = (
            "its image" if images["docker"] is not None and images["docker"].reference else "folders: build its image"
        )
    told = ", ".join(f"{name} {statistics.median(values):.3f} s" for name, values in found.items())
    print(f"{package.task.task_id:32} {told} beyond the tests ({kind})", flush=True)
    return found


def main() -> None:
    """Grade and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", type=Path, help="task folders")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--cache", type=Path, help="envfarm's cache; the usual one unless given")
    options = parser.parse_args()
    cache = options.cache or load_settings(Path.cwd(), environ).cache_folder
    rows = [anyio.run(overheads, read_package(task), options.times, cache) for task in options.tasks]
    for name in SANDBOXES:
        values = [value for row in rows for value in row[name]]
        print(f"{name}: median {statistics.median(values):.3f} s, most {max(values):.3f} s (bar {BAR_SECONDS} s)")


if __name__ == "__main__":
    main()
