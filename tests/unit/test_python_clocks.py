"""Tests that measure time are found by their trees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_miner.languages.python_clocks import timed_tests


@pytest.mark.parametrize(
    ("text", "timed"),
    [
        (
            "def test_a():\n    t = time.perf_counter()\n    work()\n    assert time.perf_counter() - t < 1\n",
            {"test_a"},
        ),
        ("def test_a():\n    def render(n):\n        s = process_time_ns()\n    render(1)\n", {"test_a"}),
        ("class T:\n    async def test_a(self):\n        assert timeit('1') < 2\n", {"T::test_a"}),
        ("def took():\n    return monotonic()\ndef test_a():\n    took()\ndef test_b():\n    other()\n", {"test_a"}),
        (
            "def f():\n    return timeit()\ndef g():\n    return f()\nclass T:\n    def test_a(self):\n        g()\n",
            {"T::test_a"},
        ),
        (
            "class T:\n    def m(self):\n        return timeit()\n    def test_a(self):\n        self.m()\n",
            {"T::test_a"},
        ),
        ("def test_a():\n    t = time.time()\n    assert time.time() - t < 3\n", {"test_a"}),
        ("def test_a():\n    now = time.time()\n    assert encode(exp=now - 1)\n", set()),
        ("def test_a():\n    assert encode(exp=int(time.time() - 1))\n", set()),
        ("def test_a():\n    assert perf_counter and Freezer().clock()\n", set()),
        ("def helper():\n    return perf_counter()\n", set()),
        ("def broken(:\n", set()),
    ],
)
def test_what_measures_time(text: str, timed: set[str]) -> None:
    assert timed_tests(text.encode()) == timed


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail(content: bytes) -> None:
    timed_tests(content)


def test_no_file_has_none() -> None:
    assert timed_tests(None) == frozenset()
