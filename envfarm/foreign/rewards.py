"""Harbor's reward files, and what becomes of the rewards of several steps. PURE.

A reward that is missing, empty, malformed or not finite is a `RewardError`, and so is an empty object, which Harbor
accepts: nothing here turns it into a 0.
"""

import json
import math
from collections.abc import Mapping, Sequence
from enum import StrEnum

from envfarm.errors import RewardError

REWARD_KEY = "reward"
_MOST_KEYS, _LONGEST_KEY = 1000, 1000
Rewards = Mapping[str, float]


class RewardProblem(StrEnum):
    """What can be wrong with a reward; the code of a `RewardError`."""

    MISSING = "reward_missing"
    EMPTY = "reward_empty"
    MALFORMED = "reward_malformed"
    NOT_FINITE = "reward_not_finite"
    AMBIGUOUS = "reward_ambiguous"
    CHANGED = "reward_changed"
    """The file was another one when it was looked at again."""


def read_rewards(json_content: bytes | None, text_content: bytes | None) -> dict[str, float]:
    """Return the rewards by key; reward.json wins over reward.txt, also where it is damaged.

    Args:
        json_content: What reward.json holds; None where there is none.
        text_content: What reward.txt holds; None where there is none.

    Raises:
        RewardError: There is no reward, or it is none.
    """
    if json_content is not None:
        return _read_json(json_content)
    if text_content is not None:
        return {REWARD_KEY: _read_text(text_content)}
    raise _error(RewardProblem.MISSING, "the verifier wrote neither reward.json nor reward.txt")


def choose_reward(rewards: Rewards, key: str | None = None) -> float:
    """Return the one number that a verdict has.

    Args:
        rewards: By key.
        key: Which one; None where there is but one.

    Raises:
        RewardError: There are several and none is named, or none has the name.
    """
    known = ", ".join(sorted(rewards))
    if key is not None:
        if key not in rewards:
            raise _error(RewardProblem.MISSING, f"the verifier wrote no reward {key!r}, but {known}")
        return rewards[key]
    if len(rewards) != 1:
        told = f"the verifier wrote several rewards ({known}): name one with --reward-key"
        raise _error(RewardProblem.AMBIGUOUS, told)
    return next(iter(rewards.values()))


def stops_after(rewards: Rewards, min_reward: Rewards) -> str | None:
    """Return why the steps end here, None where they go on; a key that is missing is below any bound."""
    for key, bound in min_reward.items():
        if rewards.get(key, -math.inf) < bound:
            return f"{key} is {rewards[key]:g}, below {bound:g}" if key in rewards else f"there is no {key}"
    return None


def aggregate(steps: Sequence[Rewards], *, takes_last: bool) -> dict[str, float]:
    """Return the task's rewards from those of the steps that were judged, in order.

    Args:
        steps: The rewards of each; steps that never began are not among them.
        takes_last: Whether the last one counts alone; otherwise the mean per key, a missing key counting 0.
    """
    if takes_last:
        return dict(steps[-1])
    keys = dict.fromkeys(key for rewards in steps for key in rewards)
    return {key: math.fsum(rewards.get(key, 0.0) for rewards in steps) / len(steps) for key in keys}


def _read_text(content: bytes) -> float:
    if not content.strip():
        raise _error(RewardProblem.EMPTY, "reward.txt is empty")
    try:
        value = float(content.decode())
    except ValueError as error:
        raise _error(RewardProblem.MALFORMED, f"reward.txt is no number: {_short(content)}") from error
    if not math.isfinite(value):
        raise _error(RewardProblem.NOT_FINITE, f"reward.txt is {value}")
    return value


def _read_json(content: bytes) -> dict[str, float]:
    if not content.strip():
        raise _error(RewardProblem.EMPTY, "reward.json is empty")
    try:
        document = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise _error(RewardProblem.MALFORMED, f"reward.json is no JSON: {_short(content)}") from error
    if not isinstance(document, dict):
        raise _error(RewardProblem.MALFORMED, f"reward.json is no object: {_short(content)}")
    if not document:
        raise _error(RewardProblem.EMPTY, "reward.json is {}: it names no reward")
    if len(document) > _MOST_KEYS:
        raise _error(RewardProblem.MALFORMED, f"reward.json names {len(document)} rewards, more than {_MOST_KEYS}")
    return {_key(key): _number(key, value) for key, value in document.items()}


def _key(key: str) -> str:
    """Return a key that a record can hold: escapes of JSON can spell half a character."""
    if len(key) > _LONGEST_KEY or any("\ud800" <= letter <= "\udfff" for letter in key):
        raise _error(RewardProblem.MALFORMED, f"reward.json: {key[:40]!r} names no reward")
    return key


def _number(key: str, value: object) -> float:
    if not isinstance(value, bool | int | float):
        raise _error(RewardProblem.MALFORMED, f"reward.json: {key} is no number, but {json.dumps(value)[:80]}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _error(RewardProblem.NOT_FINITE, f"reward.json: {key} is not finite")
    return number


def _short(content: bytes) -> str:
    return repr(content[:80].decode("utf-8", "replace"))


def _error(problem: RewardProblem, message: str) -> RewardError:
    return RewardError(message, code=str(problem))
