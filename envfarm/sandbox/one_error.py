"""Errors of task groups as who leases and runs expects them: one, and no group."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def as_raised() -> AsyncIterator[None]:
    """Let the one error of a task group pass as it was raised: callers see no group."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise
