"""Calls of the engine, which block, from tasks that do not."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from envfarm.sandbox.docker.engine import Engine

_CALLS = 16

_Result = TypeVar("_Result")


class EngineCalls:
    """Runs the engine's blocking calls in threads, so many at a time."""

    def __init__(self, engine: Engine) -> None:
        """Take the engine."""
        self.engine = engine
        self._limiter = anyio.CapacityLimiter(_CALLS)

    async def __call__(self, call: Callable[..., _Result], *arguments: object) -> _Result:
        """Run one call of the engine; a cancelled one goes on to its end, unseen."""
        return await anyio.to_thread.run_sync(partial(call, *arguments), limiter=self._limiter)
