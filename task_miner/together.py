"""Runs independent work at the same time and gives the results in order; how much at once is the boxes' affair."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

from envfarm.errors import EnvfarmError

ResultT = TypeVar("ResultT")


async def run_together(works: Iterable[Callable[[], Awaitable[ResultT]]]) -> list[ResultT]:
    """Run all works at once and return their results in the order of the works.

    The first error ends the others and is raised as it was raised, not as a group: who calls knows it by its type.
    Cancellation ends all of them.
    """
    results: dict[int, ResultT] = {}

    async def keep(number: int, work: Callable[[], Awaitable[ResultT]]) -> None:
        results[number] = await work()

    try:
        async with anyio.create_task_group() as group:
            for number, work in enumerate(works):
                group.start_soon(keep, number, work)
    except ExceptionGroup as errors:
        raise _first(errors) from errors
    return [results[number] for number in sorted(results)]


def _first(errors: ExceptionGroup[Exception]) -> Exception:
    """Return one error of a group: of several, one that says whose fault it is."""
    ours = errors.subgroup(EnvfarmError)
    found: Exception = ours if ours is not None else errors
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    return found
