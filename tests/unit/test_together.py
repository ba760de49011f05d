"""Work at the same time: results in order, the first error as it was raised, nothing left running."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from envfarm.errors import SandboxLostError
from task_miner.together import run_together


def sleeping(seconds: float, result: int, done: list[int]) -> Callable[[], Awaitable[int]]:
    async def work() -> int:
        await anyio.sleep(seconds)
        done.append(result)
        return result

    return work


def failing(error: Exception) -> Callable[[], Awaitable[int]]:
    async def work() -> int:
        raise error

    return work


def test_results_come_in_the_order_of_the_works() -> None:
    done: list[int] = []
    assert anyio.run(run_together, [sleeping(0.02, 1, done), sleeping(0, 2, done)]) == [1, 2]
    assert done == [2, 1]
    assert anyio.run(run_together, []) == []


def test_the_first_error_is_raised_as_itself_and_ends_the_others() -> None:
    done: list[int] = []
    with pytest.raises(SandboxLostError, match="gone"):
        anyio.run(run_together, [sleeping(5, 1, done), failing(SandboxLostError("gone"))])
    assert done == []


def test_of_several_errors_one_that_says_whose_fault_it_is_is_raised() -> None:
    with pytest.raises(SandboxLostError):
        anyio.run(run_together, [failing(KeyError("x")), failing(SandboxLostError("gone"))])
    with pytest.raises(KeyError):
        anyio.run(run_together, [failing(KeyError("x"))])
