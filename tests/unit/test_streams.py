"""Bounded output keeps the ends of a stream and counts what lies between, however the stream is cut."""

import os
import random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.sandbox.local.streams import BoundedOutput, drain, feed

CHUNKS = st.lists(st.binary(max_size=40), max_size=12)
LIMITS = st.integers(min_value=0, max_value=60)


def kept_of(limit: int, chunks: list[bytes], *, keep_tail: bool = True) -> tuple[bytes, int]:
    output = BoundedOutput(limit, keep_tail=keep_tail)
    for chunk in chunks:
        output.add(chunk)
    return output.close()


@given(LIMITS, CHUNKS)
def test_head_and_tail_and_count_are_those_of_the_whole_stream(limit: int, chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    head, tail = limit - limit // 2, limit // 2
    expected = whole if len(whole) <= limit else whole[:head] + whole[len(whole) - tail :]
    assert kept_of(limit, chunks) == (expected, len(whole) - len(expected))


@given(LIMITS, CHUNKS)
def test_without_a_tail_the_first_bytes_are_kept(limit: int, chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert kept_of(limit, chunks, keep_tail=False) == (whole[:limit], max(len(whole) - limit, 0))


@given(LIMITS, CHUNKS)
def test_never_more_is_held_than_the_limit_and_one_chunk(limit: int, chunks: list[bytes]) -> None:
    output = BoundedOutput(limit)
    for chunk in chunks:
        output.add(chunk)
        assert len(output._head) + sum(map(len, output._tail)) <= limit + 40


@pytest.mark.parametrize(
    ("limit", "size", "kept", "dropped"),
    [(0, 0, 0, 0), (0, 5, 0, 5), (1, 5, 1, 4), (10, 9, 9, 0), (10, 10, 10, 0), (10, 11, 10, 1), (11, 1000, 11, 989)],
)
def test_the_bound_is_exact_for_single_bytes_too(limit: int, size: int, kept: int, dropped: int) -> None:
    content, gone = kept_of(limit, [b"x"] * size)
    assert (len(content), gone) == (kept, dropped)


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1_000_000])
def test_what_is_fed_into_a_pipe_is_drained_from_it(size: int) -> None:
    data = random.Random(size).randbytes(size)

    async def run() -> tuple[bytes, int]:
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        output = BoundedOutput(len(data))

        async def feed_and_close() -> None:
            await feed(writing, data)
            os.close(writing)

        try:
            with anyio.fail_after(20):
                async with anyio.create_task_group() as group:
                    group.start_soon(feed_and_close)
                    group.start_soon(drain, reading, output)
        finally:
            os.close(reading)
        return output.close()

    assert anyio.run(run) == (data, 0)


def test_feeding_ends_where_nobody_reads_any_more() -> None:
    async def run() -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            with anyio.fail_after(20):
                async with anyio.create_task_group() as group:
                    group.start_soon(feed, writing, b"x" * 1_000_000)
                    await anyio.wait_all_tasks_blocked()
                    os.close(reading)
        finally:
            os.close(writing)

    anyio.run(run)
