"""A client that takes nothing of its answer for too long loses it: nobody may hold memory by not reading."""

import anyio
import anyio.lowlevel
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Patience:
    """Middleware that ends an answer when one part of it cannot be sent in time; what it held is freed.

    Not covered: what the system's buffers hold of the connection until the client closes it or the process ends.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or give up."""
        with anyio.CancelScope() as answer:

            async def send_in_time(message: Message) -> None:
                with anyio.move_on_after(self._seconds) as sending:
                    await send(message)
                if sending.cancelled_caught:
                    answer.cancel()
                    await anyio.lowlevel.checkpoint()

            await self._app(scope, receive, send_in_time)
