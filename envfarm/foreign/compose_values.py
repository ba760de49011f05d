"""Values of a resolved docker-compose file, in whichever of its forms a compose command prints them. PURE.

Every function raises ValueError with the rest of a sentence that begins with the value's name.
"""

import math
import re
import shlex
from collections.abc import Mapping
from typing import Any

_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?([kmgt]?)i?b?", re.IGNORECASE)
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_ENV_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=(.*)", re.DOTALL)
_TMPFS_OPTION = re.compile(
    r"rw|ro|(no)?(exec|suid|dev)|(size|nr_blocks|nr_inodes)=[0-9]{1,18}[kmgKMG%]?|mode=[0-7]{3,4}|[ug]id=[0-9]{1,9}"
)
_TOLD_CHARACTERS = 80


def plain(value: Any) -> Any:
    """Return a value with ``$$``, by which a compose command writes a dollar sign, as one."""
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def text_of(value: Any) -> str:
    """Return a text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _wrong(value, "a text")
    if "\0" in str(value):
        raise _wrong(value, "a text without NUL")
    return str(value)


def place_of(value: Any) -> str:
    """Return an absolute path."""
    if not text_of(value).startswith("/"):
        raise _wrong(value, "an absolute path")
    return text_of(value)


def tmpfs_of(value: Any) -> str:
    """Return a place in memory with its options, none of which is an order to the kernel about another mount.

    An engine passes on what it is given: with ``remount`` or ``bind`` a place behind a link of the image would be what
    the box has of this machine, made writable.
    """
    place, _, options = place_of(value).partition(":")
    for option in options.split(",") if options else ():
        if not _TMPFS_OPTION.fullmatch(option):
            raise _wrong(option, "an option of a tmpfs")
    return f"{place}:{options}" if options else place


def flag_of(value: Any) -> bool:
    """Return a yes or no."""
    if not isinstance(value, bool):
        raise _wrong(value, "true or false")
    return value


def words_of(value: Any) -> tuple[str, ...] | None:
    """Return a command as words; None where there is none."""
    if value is None:
        return None
    if isinstance(value, list):
        return tuple(text_of(item) for item in value)
    try:
        return tuple(shlex.split(text_of(value)))
    except ValueError as error:
        raise _wrong(value, "a command") from error


def list_of(value: Any) -> list[Any]:
    """Return a list; one value is a list of itself."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def mapping_of(value: Any) -> dict[str, Any]:
    """Return a mapping; a list is one of names with nothing behind them."""
    if value is None:
        return {}
    if isinstance(value, list):
        return {text_of(name): None for name in value}
    if not isinstance(value, dict):
        raise _wrong(value, "a mapping")
    return {text_of(name): item for name, item in value.items()}


def variables_of(value: Any) -> dict[str, str]:
    """Return variables; those without a value are none."""
    if isinstance(value, list):
        pairs = [text_of(item).partition("=") for item in value]
        value = {name: text for name, equals, text in pairs if equals}
    found = {}
    for name, item in mapping_of(value).items():
        if not name or "=" in name:
            raise _wrong(name, "the name of a variable")
        if item is not None:
            found[name] = ("true" if item else "false") if isinstance(item, bool) else text_of(item)
    return found


def variables_of_file(text: str) -> dict[str, str]:
    """Return the variables of a file of lines ``NAME=VALUE``."""
    found = {}
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _ENV_LINE.fullmatch(stripped)
        if match is None or "$" in match[2]:
            raise _wrong(stripped, "NAME=VALUE without $")
        name, said = match[1], match[2].strip()
        quoted = said[:1] in {'"', "'"} and said[-1:] == said[:1] and len(said) > 1
        found[name] = said[1:-1] if quoted else said.partition(" #")[0].rstrip()
    return found


def seconds_of(value: Any) -> float:
    """Return a duration such as ``1m30s``."""
    told = text_of(value)
    parts = _PART.findall(told)
    if not parts or "".join(number + unit for number, unit in parts) != told:
        raise _wrong(value, "a duration such as 1m30s")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def bytes_of(value: Any) -> int:
    """Return a size such as ``512m``, which is above 0."""
    match = _SIZE.fullmatch(text_of(value).strip())
    size = 0 if match is None else int(float(match[1]) * _SIZES[match[2].lower()])
    if not 0 < size < 1 << 50:
        raise _wrong(value, "a size such as 512m")
    return size


def count_of(value: Any) -> int:
    """Return a number above 0 without a fraction."""
    told = text_of(value)
    if not re.fullmatch("[0-9]{1,10}", told) or not 0 < int(told) < 1 << 31:
        raise _wrong(value, "a number above 0")
    return int(told)


def cores_of(value: Any) -> float:
    """Return a number of processors above 0."""
    try:
        cores = float(text_of(value))
    except ValueError as error:
        raise _wrong(value, "a number of processors") from error
    if not (math.isfinite(cores) and 0 < cores <= 4096):  # noqa: PLR2004 -- as of task.toml
        raise _wrong(value, "a number of processors")
    return cores


def ulimits_of(value: Any) -> Mapping[str, tuple[int, int]]:
    """Return soft and hard limits by name; none lets a service be real-time, which no bound on processors holds."""
    found = {}
    for name, item in mapping_of(value).items():
        pair = (item.get("soft"), item.get("hard")) if isinstance(item, dict) else (item, item)
        numbers = [number for number in pair if isinstance(number, int) and not isinstance(number, bool)]
        if len(numbers) != len(pair) or not name.isalpha() or any(not -1 <= number < 1 << 40 for number in numbers):
            raise _wrong(name, "a limit with numbers")
        if name == "rtprio" and any(numbers):
            raise _wrong(name, "another limit: what is real-time has no bound on processors")
        found[name] = (numbers[0], numbers[1])
    return found


def _wrong(value: Any, wanted: str) -> ValueError:
    return ValueError(f"is {str(value)[:_TOLD_CHARACTERS]!r}, and has to be {wanted}")
