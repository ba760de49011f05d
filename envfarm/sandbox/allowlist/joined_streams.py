"""Two streams joined to one: what comes from one side goes to the other, for as long as something moves on either."""

from collections.abc import Awaitable, Callable

import anyio
import h11
from anyio.abc import ByteStream

CHUNK = 65536
LOST = (OSError, ValueError, h11.ProtocolError, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""What streams and requests of strangers raise; none of it is the driver's failure."""

Moved = Callable[[], None]
Upload = Callable[[Moved], Awaitable[None]]


class _LastMove:
    """When something moved last."""

    def __init__(self) -> None:
        self.at = anyio.current_time()

    def __call__(self) -> None:
        self.at = anyio.current_time()


async def join_streams(near: ByteStream, far: ByteStream, upload: Upload, idle_seconds: float) -> None:
    """Copy the far stream to the near one until it ends, while `upload` fills the far one.

    Nothing that the streams do is raised: one that breaks, and one that nothing moved on for long, is the end.

    Args:
        near: The client's.
        far: The host's.
        upload: Sends what the client has for the host; calls its argument whenever something moved.
        idle_seconds: After how long without a move on either side both are given up.
    """
    moved = _LastMove()
    async with anyio.create_task_group() as group:

        async def send_up() -> None:
            try:
                await upload(moved)
            except (*LOST, anyio.EndOfStream):
                group.cancel_scope.cancel()

        async def watch() -> None:
            while anyio.current_time() < moved.at + idle_seconds:  # noqa: ASYNC110 -- time is what is waited for
                await anyio.sleep_until(moved.at + idle_seconds)
            group.cancel_scope.cancel()

        group.start_soon(send_up)
        group.start_soon(watch)
        await copy_stream(far, near, moved)
        group.cancel_scope.cancel()


async def copy_stream(source: ByteStream, target: ByteStream, moved: Moved) -> None:
    """Copy until the source ends, which the target is told, or until either breaks."""
    try:
        while True:
            try:
                data = await source.receive(CHUNK)
            except anyio.EndOfStream:
                await target.send_eof()
                return
            moved()
            await target.send(data)
            moved()
    except LOST:
        return
