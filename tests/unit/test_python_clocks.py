"""Tests that measure time are found by their trees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_miner.languages.python_clocks import timed_tests

HEAD = """
import time
import timeit as other
from datetime import datetime, timedelta
from time import monotonic, perf_counter as pc, process_time_ns, time as wall
from timeit import timeit
"""
TIMED = {
    "a clock twice": (
        "def test_a():\n    t = time.perf_counter()\n    assert time.perf_counter() - t < 1\n",
        {"test_a"},
    ),
    "a nested function": (
        "def test_a():\n    def render(n):\n        s = process_time_ns()\n    render(1)\n",
        {"test_a"},
    ),
    "a method": ("class T:\n    async def test_a(self):\n        assert timeit('1') < 2\n", {"T::test_a"}),
    "another module": ("def test_a():\n    assert other.default_timer() < 2\n", {"test_a"}),
    "another name": ("def test_a():\n    assert pc() < 2\n", {"test_a"}),
    "a helper": (
        "def took():\n    return monotonic()\ndef test_a():\n    took()\ndef test_b():\n    o()\n",
        {"test_a"},
    ),
    "helpers": ("def f():\n    pc()\ndef g():\n    f()\nclass T:\n    def test_a(self):\n        g()\n", {"T::test_a"}),
    "own method": (
        "class T:\n    def m(self):\n        return timeit()\n    def test_a(self):\n        self.m()\n",
        {"T::test_a"},
    ),
    "time of day": ("def test_a():\n    t = time.time()\n    assert time.time() - t < 3\n", {"test_a"}),
    "start and end": ("def test_a():\n    s = wall()\n    e = wall()\n    assert e - s < 3\n", {"test_a"}),
    "datetime": ("def test_a():\n    s = datetime.now()\n    assert datetime.now() - s < timedelta(1)\n", {"test_a"}),
    "a fixture": ("def took():\n    return monotonic()\ndef test_a(took):\n    assert took\n", {"test_a"}),
    "a set-up": (
        "class T:\n    def setUp(self):\n        self.t = monotonic()\n    def test_a(self):\n        pass\n",
        {"T::test_a"},
    ),
    "a condition": ("if 1:\n    def test_a():\n        monotonic()\n", {"test_a"}),
    "inherited": (
        "class A:\n    def test_a(self):\n        pc()\nclass B(A):\n    pass\nclass C(B):\n    pass\n",
        {"A::test_a", "B::test_a", "C::test_a"},
    ),
    "overridden": (
        "class A:\n    def test_a(self):\n        pc()\nclass B(A):\n    def test_a(self):\n        pass\n",
        {"A::test_a"},
    ),
    "a date": ("def test_a():\n    now = time.time()\n    assert encode(exp=now - 1)\n", set()),
    "a date less a number": ("def test_a(leeway):\n    assert encode(exp=int(time.time() - leeway))\n", set()),
    "no call": ("def test_a():\n    assert monotonic and Freezer().clock()\n", set()),
    "another library": ("def test_a():\n    assert seq.monotonic([1, 2]) and cache.timer.monotonic()\n", set()),
    "the same name elsewhere": (
        """
def get():
    return monotonic()
class A:
    def run(self):
        pc()
class B:
    def run(self):
        pass
    def test_b(self):
        self.run()
def test_a():
    d.get("x")
    subprocess.run("x")
""",
        set(),
    ),
    "no test": ("def helper():\n    return pc()\n", set()),
    "no Python": ("def broken(:\n", set()),
}


@pytest.mark.parametrize(("text", "timed"), TIMED.values(), ids=TIMED)
def test_what_measures_time(text: str, timed: set[str]) -> None:
    assert timed_tests((HEAD + text).encode()) == timed


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail(content: bytes) -> None:
    timed_tests(content)


def test_no_file_has_none() -> None:
    assert timed_tests(None) == frozenset()
