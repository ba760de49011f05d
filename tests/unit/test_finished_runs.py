"""Coins that follow from a seed, and runs that are kept until there is a verdict."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.errors import UserError
from envfarm.grading.finished_runs import RunsInFolder, RunsInMemory
from envfarm_verifiers.coins import draws, shuffled

SEED = bytes(range(32))


@given(st.binary(max_size=40), st.text(max_size=10), st.lists(st.integers(1, 1000), max_size=20))
def test_the_same_seed_and_purpose_give_the_same_coins(seed: bytes, purpose: str, sides: list[int]) -> None:
    first, second = draws(seed, purpose), draws(seed, purpose)
    tossed = [first(count) for count in sides]
    assert tossed == [second(count) for count in sides]
    assert all(0 <= found < count for found, count in zip(tossed, sides, strict=True))


def test_coins_are_even_and_differ_by_purpose_and_seed() -> None:
    draw = draws(SEED, "plan")
    counts = Counter(draw(2) for _ in range(4000))
    assert abs(counts[0] - 2000) < 200
    rows = {tuple(map(draws(seed, name), [1000] * 8)) for seed in (SEED, SEED[1:]) for name in ("plan", "order")}
    assert len(rows) == 4


@given(st.integers(0, 30))
def test_an_order_by_coins_has_every_number_once(count: int) -> None:
    assert sorted(shuffled(count, draws(SEED, "order"))) == list(range(count))


def test_runs_in_a_folder_are_kept_by_all_that_the_verdict_depends_on(tmp_path: Path) -> None:
    one, other = (RunsInFolder.of(tmp_path / "new", ["sha256:1", level]) for level in ("standard", "strict"))
    one.save("whole", b"1")
    assert one.load("whole") == RunsInFolder.of(tmp_path / "new", ["sha256:1", "standard"]).load("whole") == b"1"
    assert one.load("small_0") is None
    assert other.load("whole") is None
    one.forget()
    one.forget()
    assert one.load("whole") is None
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    kept = RunsInFolder.of(tmp_path / "file", ["x"])
    with pytest.raises(UserError, match="name another folder"):
        kept.save("whole", b"1")


def test_runs_in_memory_live_as_long_as_their_grading() -> None:
    kept = RunsInMemory()
    kept.save("whole", b"1")
    assert (kept.load("whole"), RunsInMemory().load("whole")) == (b"1", None)
