"""The engine beside an event loop: leaving cancels, many wait at once, an engine that fails lets nobody hang."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from envfarm.errors import EngineBusyError, RequestRefusedError, only_error
from envfarm.model.engine.engine import Engine
from envfarm.model.engine.engine_thread import RunningEngine, run_engine
from envfarm.model.engine.limits import EngineLimits
from envfarm.model.engine.request import Finish, Request, Sampling

Make = Callable[..., Any]


@pytest.fixture
def engine(small_config: Make, make_model: Make) -> Engine:
    return Engine(make_model(small_config()), EngineLimits(running=2, kept_conversations=0), lambda _: b"x")


def request(most_tokens: int, seed: int = 0) -> Request:
    return Request(prompt=(1, 2, 3), most_tokens=most_tokens, sampling=Sampling(seed=seed))


async def collect(running: RunningEngine, *requests: Request) -> list[int]:
    async with running.generate(*requests) as stream:
        return [token.token async for _, progress in stream for token in progress.tokens]


def test_many_wait_at_once_and_get_what_is_theirs(engine: Engine) -> None:
    found: dict[int, list[int]] = {}

    async def main() -> None:
        async with run_engine(engine, queue_limit=20) as running, anyio.create_task_group() as tasks:

            async def ask(seed: int) -> None:
                found[seed] = await collect(running, request(5 + seed, seed))

            for seed in range(12):
                tasks.start_soon(ask, seed)

    anyio.run(main)
    assert {seed: len(tokens) for seed, tokens in found.items()} == {seed: 5 + seed for seed in range(12)}
    for seed in (0, 11):
        engine.submit(request(5 + seed, seed))
        alone = []
        while engine.has_work:
            alone += [token.token for progress in engine.step() for token in progress.tokens]
        assert alone == found[seed]


def test_leaving_cancels_and_frees(engine: Engine) -> None:
    async def main() -> None:
        async with run_engine(engine, queue_limit=0) as running:
            with anyio.move_on_after(0):
                await collect(running, request(500))
            for _ in range(3):
                async with running.generate(request(500)) as stream:
                    await stream.receive()
            assert running.open_requests == 0
            # The thread works in order: when this one is done, those before have been cancelled.
            assert len(await collect(running, request(3))) == 3
            assert engine.memory.pool.used_blocks == 0

    anyio.run(main)
    assert (engine.has_work, engine.memory.free_rows) == (False, 2)


def test_no_more_may_wait_than_the_limit_says(engine: Engine) -> None:
    async def main() -> None:
        async with run_engine(engine, queue_limit=1) as running:
            async with running.generate(request(400)), running.generate(request(400)), running.generate(request(400)):
                with pytest.raises(EngineBusyError, match="3 requests are open") as caught:
                    await collect(running, request(1))
                assert caught.value.retryable
            assert len(await collect(running, request(1))) == 1

    anyio.run(main)


def test_requests_that_belong_together_share_a_stream_and_begin_together_or_not_at_all(engine: Engine) -> None:
    found: dict[int, list[int]] = {}

    async def main() -> None:
        async with run_engine(engine, queue_limit=1) as running:
            async with running.generate(*[request(5 + seed, seed) for seed in range(3)]) as stream:
                async for place, progress in stream:
                    found.setdefault(place, []).extend(token.token for token in progress.tokens)
            for seed in range(3):
                assert await collect(running, request(5 + seed, seed)) == found[seed]
            with pytest.raises(EngineBusyError, match="0 requests are open"):
                await collect(running, *[request(5)] * 4)
            async with running.generate(*[request(400)] * 3) as stream:
                await stream.receive()
            assert running.open_requests == 0
            assert len(await collect(running, request(3))) == 3
            assert engine.memory.pool.used_blocks == 0

    anyio.run(main)
    assert [len(found[seed]) for seed in range(3)] == [5, 6, 7]


def test_answers_that_nobody_reads_keep_no_place(engine: Engine) -> None:
    async def main() -> None:
        async with run_engine(engine, queue_limit=0) as running, running.generate(*[request(5)] * 2) as unread:
            with anyio.fail_after(20):
                while running.open_requests:  # noqa: ASYNC110 -- nobody is told when an answer is there and unread
                    await anyio.sleep(0.01)
            assert len(await collect(running, request(3), request(4))) == 7
            assert len([progress async for _, progress in unread if progress.finish]) == 2

    anyio.run(main)


def test_a_refused_request_takes_no_place(engine: Engine) -> None:
    async def main() -> None:
        async with run_engine(engine, queue_limit=0) as running:
            with pytest.raises(RequestRefusedError, match="at least one token"):
                await collect(running, request(0))
            assert running.open_requests == 0

    anyio.run(main)


def test_an_engine_that_fails_lets_nobody_hang(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    finishes: list[Finish | None] = []

    @asynccontextmanager
    async def patient() -> AsyncIterator[RunningEngine]:
        """Outlive the engine, as connections outlive the server's lifespan."""
        running = RunningEngine(engine, 5)
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                with pytest.raises(RuntimeError, match="out of memory"):
                    await running.run()

            tasks.start_soon(run)
            yield running

    async def main() -> None:
        async with patient() as running:
            monkeypatch.setattr(engine, "step", fail)
            with anyio.fail_after(20):
                async with running.generate(request(5)) as stream:
                    finishes.extend([progress.finish async for _, progress in stream])
                assert await collect(running, request(5)) == []
            assert not running.is_running

    def fail() -> None:
        message = "out of memory"
        raise RuntimeError(message)

    anyio.run(main)
    assert finishes == []


def test_a_failure_comes_out_of_the_block(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        message = "out of memory"
        raise RuntimeError(message)

    async def main() -> None:
        monkeypatch.setattr(engine, "step", fail)
        async with run_engine(engine, queue_limit=0) as running:
            await collect(running, request(5))
            await anyio.sleep(20)

    with pytest.raises(BaseExceptionGroup) as caught:
        anyio.run(main)
    assert "out of memory" in str(only_error(caught.value))
