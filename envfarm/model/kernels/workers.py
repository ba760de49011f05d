"""Threads that share a step: requests do not see one another, so each thread runs some of them through all layers.

Nobody waits inside a step: threads meet at its end only. A call into C lets other Python threads run.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor


class Workers:
    """The calling thread, and others that are started when they are first needed and end with this object.

    Attributes:
        count: How many there are, the caller included.
    """

    def __init__(self, count: int) -> None:
        self.count = max(count, 1)
        self._pool: ThreadPoolExecutor | None = None

    def run(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Do all jobs, at most `count`; the caller does the first."""
        if len(jobs) > 1 and self._pool is None:
            self._pool = ThreadPoolExecutor(self.count - 1, thread_name_prefix="envfarm-kernels")
        others = [self._pool.submit(job) for job in jobs[1:]] if self._pool is not None else []
        jobs[0]()
        for other in others:
            other.result()


def split_evenly(sizes: Sequence[int], parts: int) -> list[tuple[int, int]]:
    """Return where each part begins and ends, none of them empty: neighbours stay together, sums are about equal."""
    bounds: list[tuple[int, int]] = []
    total, begin, sum_before = sum(sizes), 0, 0
    for place, size in enumerate(sizes):
        sum_before += size
        left = parts - len(bounds) - 1
        if left and sum_before * parts >= total * (len(bounds) + 1) and place + 1 < len(sizes):
            bounds.append((begin, place + 1))
            begin = place + 1
    return [*bounds, (begin, len(sizes))] if sizes else []
