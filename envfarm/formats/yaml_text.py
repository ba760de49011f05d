"""YAML of strangers as plain values: what JSON knows, and dates as they are written. PURE.

Covered: tags that no reader was meant to see, values that are no JSON, and texts of a kilobyte that would unfold to
gigabytes, by aliases or by merged mappings.
"""

import re
from typing import Any

import yaml

_MOST_VALUES = 200_000
"""A task's YAML has some hundred; one that unfolds to more is no description of anything."""
_MOST_CHARACTERS = 4 << 20
_MOST_MERGED = 10_000
_MOST_BITS = 1024
_TOLD_CHARACTERS = 200


def parse_yaml(text: str, *, is_core: bool = False) -> Any:
    """Return the value of a YAML document.

    Args:
        text: The document.
        is_core: Whether words and numbers mean what YAML 1.2 says: ``no`` and ``22:22`` are texts.

    Raises:
        ValueError: It is no YAML, or holds what is no plain value; the message is one line.
    """
    try:
        value = yaml.load(text, Loader=_CoreLoader if is_core else _Loader)  # noqa: S506 -- safe, without dates
    # the reader's own errors, and those of its conversions of a tag's text: !!bool x, !!int "", !!timestamp x
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())[:_TOLD_CHARACTERS] or type(error).__name__) from error
    except RecursionError as error:
        message = "it is nested too deeply"
        raise ValueError(message) from error
    _check_plain(value)
    return value


class _Loader(yaml.SafeLoader):
    """SafeLoader that leaves dates as they are written, and ends mappings that merging makes huge."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge what ``<<`` names."""
        super().flatten_mapping(node)
        if len(node.value) > _MOST_MERGED:
            message = "a mapping is merged of too many others"
            raise ValueError(message)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, expression) for tag, expression in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _CoreLoader(_Loader):
    """The same for YAML 1.2, as newer programs read it."""


_WITHOUT = {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
_CoreLoader.yaml_implicit_resolvers = {
    first: [(tag, expression) for tag, expression in rules if tag not in _WITHOUT]
    for first, rules in _Loader.yaml_implicit_resolvers.items()
}
for _tag, _expression, _firsts in (
    ("bool", r"(true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+)$", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$", "-+.0123456789"),
):
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_expression), list(_firsts))


def _check_plain(value: Any) -> None:
    """Refuse what JSON does not know; a value that holds itself has no end, and is refused by its size."""
    waiting, seen, characters = [value], 0, 0
    while waiting:
        item = waiting.pop()
        seen += 1
        characters += len(item) if isinstance(item, str) else 0
        if seen > _MOST_VALUES or characters > _MOST_CHARACTERS:
            message = f"it unfolds to more than {_MOST_VALUES} values, or {_MOST_CHARACTERS} characters"
            raise ValueError(message)
        if isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list):
            waiting += item
        elif not isinstance(item, str | int | float | None) or (isinstance(item, int) and _is_huge(item)):
            message = f"it holds a value of type {type(item).__name__} that is none of JSON"
            raise ValueError(message)


def _is_huge(number: int) -> bool:
    return number.bit_length() > _MOST_BITS
