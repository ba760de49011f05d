"""Threads that parse at the same time get their trees."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envfarm.python_trees import parse_tree


class Finalized:
    """Runs a little when it goes, and lets other threads go on meanwhile."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        for _ in range(50):
            pass


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def parse_among_finalizers(path: Path) -> bool:
    for _ in range(20):
        Finalized()  # collected at some later time, such as while a tree is built
    return bool(parse_tree(path.read_bytes(), filename=path.name).body)


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_threads_that_parse_at_the_same_time_get_their_trees() -> None:
    paths = sorted(path for path in Path(pytest.__file__).parents[1].glob("_pytest/*.py") if path.stat().st_size > 9999)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(parse_among_finalizers, paths * 4))
