"""Checks a task's configuration of a verifier against the verifier's own schema. PURE.

Understood of JSON Schema: ``type`` of boolean, integer, number, string, array and object; ``properties``, ``required``,
``additionalProperties`` as a boolean, ``items``, ``enum``, ``minimum`` and ``exclusiveMinimum``. A keyword beyond these
is not checked here; a verifier checks what it cannot say with them.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

_TYPES: Mapping[str, Callable[[object], bool]] = {
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list | tuple),
    "object": lambda value: isinstance(value, Mapping),
}


def find_config_problem(config: object, schema: Mapping[str, Any], *, name: str = "verifier_config") -> str | None:
    """Return in one line what is wrong with a configuration, and how to mend it; None where nothing is.

    Args:
        config: The configuration as the task carries it.
        schema: The verifier's schema.
        name: Where the configuration stands, for the message.
    """
    expected = schema.get("type")
    if isinstance(expected, str) and expected in _TYPES and not _TYPES[expected](config):
        return f"{name} is to be of type {expected}, not {type(config).__name__}"
    if "enum" in schema and config not in schema["enum"]:
        return f"{name} is to be one of {', '.join(map(repr, schema['enum']))}"
    if isinstance(config, int | float):
        return _find_number_problem(config, schema, name)
    if isinstance(config, Mapping):
        return _find_object_problem(config, schema, name)
    if isinstance(config, list | tuple) and "items" in schema:
        problems = (find_config_problem(item, schema["items"], name=f"{name}[{n}]") for n, item in enumerate(config))
        return next((problem for problem in problems if problem), None)
    return None


def _find_number_problem(value: float, schema: Mapping[str, Any], name: str) -> str | None:
    if "minimum" in schema and not value >= schema["minimum"]:
        return f"{name} is to be at least {schema['minimum']}"
    if "exclusiveMinimum" in schema and not value > schema["exclusiveMinimum"]:
        return f"{name} is to be more than {schema['exclusiveMinimum']}"
    return None


def _find_object_problem(config: Mapping[Any, Any], schema: Mapping[str, Any], name: str) -> str | None:
    properties: Mapping[str, Any] = schema.get("properties", {})
    for key in schema.get("required", ()):
        if key not in config:
            return f"{name}.{key} is missing"
    for key, value in config.items():
        if key not in properties and schema.get("additionalProperties", True) is False:
            near = difflib.get_close_matches(str(key), properties, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(properties)) or 'none'}"
            return f"{name}.{key} is unknown: {hint}"
        problem = find_config_problem(value, properties.get(key, {}), name=f"{name}.{key}")
        if problem is not None:
            return problem
    return None
