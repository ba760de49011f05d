"""Harbor's reward files, and the rewards of several steps."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.errors import RewardError
from envfarm.foreign.rewards import aggregate, choose_reward, read_rewards, stops_after

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("json_content", "text_content", "expected"),
    [
        (b'{"reward": 0.5}', b"1", {"reward": 0.5}),
        (b' {"a": true, "b": false, "c": -2}\n', None, {"a": 1.0, "b": 0.0, "c": -2.0}),
        (None, b" 1e-3\n", {"reward": 0.001}),
        (None, b"0", {"reward": 0.0}),
    ],
)
def test_rewards_are_read(json_content: bytes | None, text_content: bytes | None, expected: dict[str, float]) -> None:
    assert read_rewards(json_content, text_content) == expected


@pytest.mark.parametrize(
    ("json_content", "text_content", "code"),
    [
        (None, None, "reward_missing"),
        (None, b"", "reward_empty"),
        (None, b" \n", "reward_empty"),
        (None, b"one", "reward_malformed"),
        (None, b"1 2", "reward_malformed"),
        (None, b"\xff1", "reward_malformed"),
        (None, b"nan", "reward_not_finite"),
        (None, b"-Infinity", "reward_not_finite"),
        (None, b"1e999", "reward_not_finite"),
        (b"", b"1", "reward_empty"),
        (b'{"\\ud800": 1}', None, "reward_malformed"),
        (b'{"' + b"k" * 5000 + b'": 1}', None, "reward_malformed"),
        (b"{" + b",".join(b'"%d": 1' % n for n in range(1001)) + b"}", None, "reward_malformed"),
        (b"{}", b"1", "reward_empty"),
        (b"{", b"1", "reward_malformed"),
        (b"1", b"1", "reward_malformed"),
        (b"[1]", None, "reward_malformed"),
        (b'{"reward": "1"}', None, "reward_malformed"),
        (b'{"reward": null}', None, "reward_malformed"),
        (b'{"reward": NaN}', None, "reward_not_finite"),
        (b'{"reward": 1e999}', None, "reward_not_finite"),
        (b'{"reward": 1, "x": -Infinity}', None, "reward_not_finite"),
        (b'{"reward": 1' + b"0" * 400 + b"}", None, "reward_not_finite"),
        (b"[" * 100_000, None, "reward_malformed"),
    ],
)
def test_what_is_no_reward_has_a_code_and_never_a_number(
    json_content: bytes | None, text_content: bytes | None, code: str
) -> None:
    with pytest.raises(RewardError) as caught:
        read_rewards(json_content, text_content)
    assert caught.value.code == code
    assert not caught.value.retryable


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_bytes_are_finite_rewards_or_a_reward_error(json_content: bytes, text_content: bytes) -> None:
    for contents in ((json_content, text_content), (None, text_content)):
        try:
            rewards = read_rewards(*contents)
        except RewardError:
            continue
        assert rewards
        assert all(math.isfinite(value) for value in rewards.values())


def test_one_reward_is_chosen_or_asked_for() -> None:
    assert choose_reward({"score": 0.25}) == 0.25
    assert choose_reward({"a": 0.25, "b": 1.0}, "a") == 0.25
    with pytest.raises(RewardError, match="reward-key") as caught:
        choose_reward({"reward": 1.0, "b": 1.0})
    assert caught.value.code == "reward_ambiguous"
    with pytest.raises(RewardError, match="no reward 'c'"):
        choose_reward({"a": 1.0}, "c")


@pytest.mark.parametrize(
    ("rewards", "bounds", "stops"),
    [
        ({"reward": 0.5}, {}, False),
        ({"reward": 0.5}, {"reward": 0.5}, False),
        ({"reward": 0.4}, {"reward": 0.5}, True),
        ({"a": 1.0}, {"reward": -1e300}, True),
        ({"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 0.1}, True),
    ],
)
def test_steps_end_below_the_least_reward(rewards: dict[str, float], bounds: dict[str, float], *, stops: bool) -> None:
    assert (stops_after(rewards, bounds) is not None) is stops


def test_steps_are_averaged_per_key_a_missing_one_counting_0() -> None:
    steps = [{"reward": 1.0}, {"reward": 0.5, "style": 1.0}, {"style": 0.2}]
    assert aggregate(steps, takes_last=False) == {"reward": 0.5, "style": pytest.approx(0.4)}
    assert aggregate(steps, takes_last=True) == {"style": 0.2}


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.floats(-1, 1), min_size=1), min_size=1, max_size=6))
def test_the_mean_of_rewards_stays_between_them(steps: list[dict[str, float]]) -> None:
    for key, value in aggregate(steps, takes_last=False).items():
        values = [rewards.get(key, 0.0) for rewards in steps]
        assert min(values) - 1e-9 <= value <= max(values) + 1e-9


def test_a_malformed_key_is_not_told_in_full() -> None:
    with pytest.raises(RewardError) as caught:
        read_rewards(b'{"' + b"k" * 500_000 + b'": "x"}', None)
    assert len(str(caught.value)) < 200
