"""Which options of a project's own pytest configuration a run still needs. PURE.

`addopts` are switched off in every run: they select, repeat, distribute and decorate tests. A few of them say how tests
are found or started at all; without those the run would fail for a reason of ours. And since plug-ins are named and
never loaded by themselves, pytest would miss `required_plugins` that are there.
"""

import configparser
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

_KEPT = ("--import-mode", "--asyncio-mode", "--ds", "--dc")
_INI_SECTIONS = (
    ("pytest.ini", "pytest"),
    (".pytest.ini", "pytest"),
    ("pyproject.toml", ""),
    ("tox.ini", "pytest"),
    ("setup.cfg", "tool:pytest"),
)
"""Where pytest looks, in its own order; the first that has the section is all that it reads."""


def runner_options(files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the options that a run of the project's tests needs, by its files at the root."""
    settings = _settings(files)
    try:
        words = shlex.split(settings.get("addopts", ""))
    except ValueError:
        words = []
    required = ("-o", "required_plugins=") if settings.get("required_plugins") else ()
    return (*_needed(words), *required)


def settings_differ(name: str, old: bytes | None, new: bytes | None) -> bool | None:
    """Say whether two versions of a file at the root tell pytest different things; None where it tells nothing at all.

    Most changes of such files are about packaging and linters, and no test can see them.
    """
    if name not in dict(_INI_SECTIONS):
        return None
    return _settings({name: old or b""}) != _settings({name: new or b""})


def _needed(words: list[str]) -> Iterator[str]:
    for number, word in enumerate(words):
        name, equals, _ = word.partition("=")
        following = words[number + 1] if number + 1 < len(words) else ""
        if name in _KEPT and (equals or following):
            yield word if equals else f"{word}={following}"
        elif word == "-p" and following and not following.startswith("no:"):
            yield f"-p{following}"
        elif word.startswith("-p") and len(word) > len("-p") and not word.startswith("-pno:"):
            yield word


def _settings(files: Mapping[str, bytes]) -> dict[str, str]:
    for name, section in _INI_SECTIONS:
        text = files.get(name, b"").decode("utf-8", "replace")
        found = _from_ini(text, section) if section else _from_toml(text)
        if found is not None:
            return found
    return {}


def _from_ini(text: str, section: str) -> dict[str, str] | None:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return None
    return dict(parser.items(section)) if parser.has_section(section) else None


def _from_toml(text: str) -> dict[str, str] | None:
    try:
        found: Any = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None
    for key in ("tool", "pytest", "ini_options"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        return None
    return {
        str(key): shlex.join(map(str, value)) if isinstance(value, list) else str(value) for key, value in found.items()
    }
