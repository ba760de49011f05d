"""A box that was to stand ready and could not be made costs nobody a lease, whatever kept it from being made."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import anyio.lowlevel
import pytest

from envfarm.errors import MissingToolError, SandboxStartError
from envfarm.sandbox.warm_pool import WarmPool

NO_DESCRIPTORS = OSError("no descriptors left")


@dataclass(frozen=True)
class Order:
    key: str = "all alike"
    may_stand_ready: bool = True


@dataclass
class Box:
    number: int
    is_lost: bool = False


@pytest.mark.parametrize("error", [NO_DESCRIPTORS, SandboxStartError("no"), MissingToolError("no")])
def test_a_spare_box_that_cannot_be_made_ends_no_lease(error: Exception) -> None:
    made: list[int] = []

    @asynccontextmanager
    async def open_box(order: Order) -> AsyncIterator[Box]:
        made.append(len(made))
        number = made[-1]
        await anyio.lowlevel.checkpoint()
        if number == 1:
            raise error
        yield Box(number)

    async def run() -> None:
        async with anyio.create_task_group() as group:
            pool = WarmPool(group, open_box, 1)
            async with pool.lease(Order()) as box:
                await anyio.wait_all_tasks_blocked()
                assert (box.number, len(made)) == (0, 2)
            async with pool.lease(Order()) as box:
                assert box.number == 2
            await pool.end()

    anyio.run(run)


def test_a_box_that_is_asked_for_and_cannot_be_made_is_its_lease_s_error() -> None:
    @asynccontextmanager
    async def open_box(order: Order) -> AsyncIterator[Box]:
        raise NO_DESCRIPTORS
        yield Box(0)

    async def run() -> None:
        async with anyio.create_task_group() as group:
            pool = WarmPool(group, open_box, 1)
            with pytest.raises(OSError, match="no descriptors left"):
                async with pool.lease(Order()):
                    pass
            await pool.end()

    anyio.run(run)
