"""Runs an engine in a thread beside an event loop: requests go in, progress comes out, leaving a request cancels it.

Only that thread touches the engine; the event loop may read its counts. If a step raises, everybody who waits is
cancelled, and `run_engine` raises.
"""

import math
import queue
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from envfarm.errors import EngineBusyError
from envfarm.model.engine.engine import Engine
from envfarm.model.engine.request import Progress, Request


@dataclass(frozen=True)
class _Submission:
    ticket: int
    request: Request


@dataclass(frozen=True)
class _Withdrawal:
    ticket: int


@dataclass(frozen=True)
class _Outbox:
    """Where a request's progress goes: its place among those that were asked together, and their stream."""

    place: int
    send: MemoryObjectSendStream[tuple[int, Progress]]


class RunningEngine:
    """An engine that runs.

    Attributes:
        engine: To be read only.
        is_running: Whether it works; requests to one that does not end without an answer.
        most_open: How many requests may wait or generate.
    """

    def __init__(self, engine: Engine, queue_limit: int) -> None:
        self.engine = engine
        self.is_running = True
        self.most_open = engine.limits.running + queue_limit
        self._inbox: queue.SimpleQueue[_Submission | _Withdrawal | None] = queue.SimpleQueue()
        self._outboxes: dict[int, _Outbox] = {}
        self._tickets = count()
        self._id_of_ticket: dict[int, int] = {}
        self._ticket_of_id: dict[int, int] = {}

    @property
    def open_requests(self) -> int:
        """Requests that are waiting or generating; not those whose answer is there and was not read yet."""
        return len(self._outboxes)

    @asynccontextmanager
    async def generate(self, *requests: Request) -> AsyncIterator[MemoryObjectReceiveStream[tuple[int, Progress]]]:
        """Give the progress of requests as it comes, with the place of each; leaving cancels them and frees all memory.

        The stream ends without a last progress of a request if the engine stops.

        Raises:
            RequestRefusedError: One asks for something that the engine cannot do.
            EngineBusyError: The queue has not room for all of them; none has begun.
        """
        for request in requests:
            self.engine.check(request)
        if self.open_requests + len(requests) > self.most_open:
            message = f"{self.open_requests} requests are open, and no more may wait"
            raise EngineBusyError(message)
        send, receive = anyio.create_memory_object_stream[tuple[int, Progress]](math.inf)
        tickets = []
        with send:
            for place, request in enumerate(requests if self.is_running else ()):
                ticket = next(self._tickets)
                tickets.append(ticket)
                self._outboxes[ticket] = _Outbox(place, send.clone())
                self._inbox.put(_Submission(ticket, request))
        try:
            with receive:
                yield receive
        finally:
            for ticket in tickets:
                if (outbox := self._outboxes.pop(ticket, None)) is not None:
                    outbox.send.close()
                    self._inbox.put(_Withdrawal(ticket))

    async def run(self) -> None:
        """Work until `stop` is called; whoever still waits then gets no more."""
        try:
            await anyio.to_thread.run_sync(self._work, limiter=anyio.CapacityLimiter(1))
        finally:
            self.is_running = False
            for outbox in self._outboxes.values():
                outbox.send.close()
            self._outboxes.clear()

    def stop(self) -> None:
        """Let `run` end after the step under way."""
        self._inbox.put(None)

    def _work(self) -> None:
        while True:
            stopped = self._read_inbox()
            if stopped:
                return
            progress = self.engine.step() if self.engine.has_work else []
            if progress:
                anyio.from_thread.run_sync(self._deliver, [(self._ticket(one), one) for one in progress])

    def _read_inbox(self) -> bool:
        """Do what was asked since the last step, waiting where there is nothing else to do; return whether to stop."""
        while True:
            try:
                order = self._inbox.get(block=not self.engine.has_work)
            except queue.Empty:
                return False
            if order is None:
                return True
            if isinstance(order, _Submission):
                number = self.engine.submit(order.request)
                self._id_of_ticket[order.ticket], self._ticket_of_id[number] = number, order.ticket
            elif order.ticket in self._id_of_ticket:
                number = self._id_of_ticket.pop(order.ticket)
                del self._ticket_of_id[number]
                self.engine.cancel(number)

    def _ticket(self, progress: Progress) -> int:
        ticket = self._ticket_of_id[progress.request_id]
        if progress.finish is not None:
            del self._ticket_of_id[progress.request_id], self._id_of_ticket[ticket]
        return ticket

    def _deliver(self, news: list[tuple[int, Progress]]) -> None:
        """Hand progress to those who still wait for it; in the event loop's thread."""
        for ticket, progress in news:
            outbox = self._outboxes.get(ticket)
            if outbox is None:
                continue
            outbox.send.send_nowait((outbox.place, progress))
            if progress.finish is not None:
                del self._outboxes[ticket]
                outbox.send.close()


@asynccontextmanager
async def run_engine(engine: Engine, *, queue_limit: int) -> AsyncIterator[RunningEngine]:
    """Give an engine that runs until the block ends.

    Args:
        engine: Nobody else may drive it meanwhile.
        queue_limit: How many requests may wait beside those that generate.
    """
    running = RunningEngine(engine, queue_limit)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.run)
        try:
            yield running
        finally:
            running.stop()
