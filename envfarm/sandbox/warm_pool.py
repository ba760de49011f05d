"""Boxes that stand ready for requests of the same kind.

Each box is held by a task of its own from its making to its end, in the provider's task group. Who leases takes a ready
box or has one made; a box serves one lease and then ends. The pool keeps to a number of boxes in all: those of the
requests that came longest ago end first.
"""

from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Generic, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup

from envfarm.errors import BoundaryError, UserError


class Order(Protocol):
    """What a box is made from, as its provider knows it."""

    @property
    def key(self) -> str:
        """Equal for orders that the same box could serve."""
        ...

    @property
    def may_stand_ready(self) -> bool:
        """Whether a box may be made before it is asked for."""
        ...


class Box(Protocol):
    """What is given."""

    @property
    def is_lost(self) -> bool:
        """Whether it is gone for good."""
        ...


AnyOrder = TypeVar("AnyOrder", bound=Order)
AnyBox = TypeVar("AnyBox", bound=Box)


class _Held(Generic[AnyOrder, AnyBox]):
    """A box in the hands of its task."""

    def __init__(self, order: AnyOrder) -> None:
        self.order = order
        self.made = anyio.Event()
        self.unwanted = anyio.CancelScope()
        self.done = anyio.Event()
        self.gone = anyio.Event()
        self.box: AnyBox | None = None
        self.error: BaseException | None = None

    @property
    def is_alive(self) -> bool:
        return self.box is not None and not self.box.is_lost and not self.gone.is_set()


class WarmPool(Generic[AnyOrder, AnyBox]):
    """Gives boxes; see the module."""

    def __init__(
        self, group: TaskGroup, open_box: Callable[[AnyOrder], AbstractAsyncContextManager[AnyBox]], size: int
    ) -> None:
        """Take the task group that holds all boxes, what makes one, and how many stand ready in all."""
        self._group = group
        self._open = open_box
        self._size = size
        self._ready: OrderedDict[str, deque[_Held[AnyOrder, AnyBox]]] = OrderedDict()

    @asynccontextmanager
    async def lease(self, order: AnyOrder) -> AsyncIterator[AnyBox]:
        """Give a box for the length of the block; nothing runs in it any more when the block is left.

        Raises:
            SandboxStartError: None could be made.
            UserError: This machine lacks what one needs.
        """
        if not self._size:
            async with self._open(order) as box:
                yield box
            return
        held = self._take(order) or self._start(order)
        try:
            self.refill(order)
            await held.made.wait()
            if held.error is not None:
                raise held.error
            assert held.box is not None  # noqa: S101 -- made without an error
            yield held.box
        finally:
            held.done.set()
            if held.box is None:
                held.unwanted.cancel()
            with anyio.CancelScope(shield=True):
                await held.gone.wait()

    async def prepare(self, order: AnyOrder, count: int) -> None:
        """Have boxes stand ready for a request; returns once they do.

        Raises:
            SandboxStartError: One could not be made.
        """
        self._size = max(self._size, count)
        self.refill(order, count)
        for held in list(self._ready.get(order.key, ())):
            await held.made.wait()
            if held.error is not None:
                raise held.error

    async def end(self) -> None:
        """End all boxes that stand ready, and wait until they are gone."""
        ending = [held for boxes in self._ready.values() for held in boxes]
        self._ready.clear()
        for held in ending:
            _dismiss(held)
        with anyio.CancelScope(shield=True):
            for held in ending:
                await held.gone.wait()

    def _take(self, order: AnyOrder) -> _Held[AnyOrder, AnyBox] | None:
        boxes = self._ready.get(order.key)
        while boxes:
            held = boxes.popleft()
            if held.is_alive or not held.made.is_set():
                return held
            _dismiss(held)
        return None

    def refill(self, order: AnyOrder, count: int | None = None) -> None:
        """Have boxes stand ready for a request, soon: as many as there may be, or `count`."""
        wanted = self._size if count is None else count
        if not wanted or not order.may_stand_ready:
            return
        boxes = self._ready.setdefault(order.key, deque())
        self._ready.move_to_end(order.key)
        while len(boxes) < wanted:
            boxes.append(self._start(order))
        while sum(map(len, self._ready.values())) > self._size:
            oldest = next(iter(self._ready.values()))
            if oldest:
                _dismiss(oldest.popleft())
            if not oldest:
                self._ready.popitem(last=False)

    def _start(self, order: AnyOrder) -> _Held[AnyOrder, AnyBox]:
        held = _Held[AnyOrder, AnyBox](order)
        self._group.start_soon(self._hold, held)
        return held

    async def _hold(self, held: _Held[AnyOrder, AnyBox]) -> None:
        try:
            with held.unwanted:
                async with self._open(held.order) as box:
                    held.box = box
                    held.made.set()
                    await held.done.wait()
        except (BoundaryError, UserError, OSError) as error:
            held.error = error
        finally:
            held.made.set()
            held.gone.set()


def _dismiss(held: _Held[AnyOrder, AnyBox]) -> None:
    held.done.set()
    held.unwanted.cancel()
