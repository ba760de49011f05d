"""Values that a box sent out, read back, and compared with what only the outside knows. PURE, and total.

The box writes plain data as tagged lists (box_programs/ask.py). What is read back here are values of Python's own
types, so no comparison runs anything of the submission's.
"""

import ast
import json
from typing import Any

from envfarm.records.trust import Operator

_DEEPEST = 150
_MOST_DIGITS = 10_000


class NotPlainError(ValueError):
    """The text is no plain value."""


def decode_text(text: str) -> Any:
    """Return the value behind tagged lists in JSON.

    Raises:
        NotPlainError: It is malformed.
    """
    try:
        return decode_value(json.loads(text))
    except (ValueError, RecursionError) as error:
        message = "no tagged value"
        raise NotPlainError(message) from error


def decode_value(encoded: Any, depth: int = 0) -> Any:
    """Return the value behind tagged lists.

    Raises:
        NotPlainError: It is malformed.
    """
    if not isinstance(encoded, list) or not encoded or depth > _DEEPEST:
        message = "no tagged value"
        raise NotPlainError(message)
    tag, *rest = encoded
    try:
        return _DECODERS[tag](depth + 1, *rest)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        message = f"no value of the tag {str(tag)[:20]!r}"
        raise NotPlainError(message) from error


def holds(operator: Operator, value: Any, expected: str) -> bool:
    """Say whether a value is what was expected.

    Args:
        operator: How the two are compared.
        value: What the box sent.
        expected: A Python literal.
    """
    wanted = ast.literal_eval(expected)
    try:
        if operator is Operator.CONTAINS:
            return bool(wanted in value)
        return bool(value == wanted)
    except (TypeError, ValueError, RecursionError):
        return False


def _text(_: int, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(_: int, value: Any) -> int:
    if not isinstance(value, str) or len(value) > _MOST_DIGITS:
        raise TypeError
    return int(value) if len(value) < _SAFE_DIGITS else _long_whole(value)


_SAFE_DIGITS = 4000
"""Python refuses to convert longer decimal texts at once."""


def _long_whole(text: str) -> int:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    value = 0
    for start in range(0, len(digits), 1000):
        part = digits[start : start + 1000]
        value = value * 10 ** len(part) + int(part)
    return sign * value


def _real(_: int, value: Any) -> float:
    return float.fromhex(_text(0, value)) if value not in {"nan", "inf", "-inf"} else float(value)


def _flag(_: int, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _items(depth: int, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return [decode_value(item, depth) for item in value]


def _pairs(depth: int, value: Any) -> dict[Any, Any]:
    found = {}
    for key, item in value:
        found[decode_value(key, depth)] = decode_value(item, depth)
    return found


_DECODERS: dict[str, Any] = {
    "n": lambda _depth: None,
    "b": _flag,
    "i": _whole,
    "f": _real,
    "c": lambda depth, real, imaginary: complex(_real(depth, real), _real(depth, imaginary)),
    "s": _text,
    "y": lambda _depth, value: bytes.fromhex(value),
    "l": _items,
    "t": lambda depth, value: tuple(_items(depth, value)),
    "S": lambda depth, value: frozenset(_items(depth, value)),
    "d": _pairs,
}
