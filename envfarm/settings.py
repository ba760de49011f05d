"""Frozen settings: defaults, then the nearest envfarm.toml upward (or ENVFARM_CONFIG), then ENVFARM_* variables.

A variable names a key in capitals, with two underscores between levels: ``ENVFARM_MINE__RUNS=5`` is ``runs`` in
``[mine]``, ``ENVFARM_CACHE_FOLDER`` is ``cache_folder``. A key that does not exist is an error that names the nearest
one that does.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from envfarm.errors import SettingsError

FILE_NAME = "envfarm.toml"
_PREFIX = "ENVFARM_"
_NO_SETTINGS = frozenset({"ENVFARM_CONFIG", "ENVFARM_REPORT_FD", "ENVFARM_WORKSPACE"})


_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
_Gigabytes = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class SandboxSettings(_Section, frozen=True, kw_only=True):
    """Where untrusted code runs."""

    provider: str = "local"
    """Entry-point name."""
    options: dict[str, Any] = {}
    """The provider's own options."""

    def chosen(self, provider: str | None) -> "SandboxSettings":
        """Return these, or those of another provider, which has the defaults of its options."""
        return self if provider in (None, self.provider) else SandboxSettings(provider=str(provider))


class MineSettings(_Section, frozen=True, kw_only=True):
    """Defaults of `envfarm mine`."""

    runs: Annotated[int, msgspec.Meta(ge=3)] = 3
    jobs: _Count = 0
    """Candidates at a time; 0 for as many as there are cores."""
    cutoff: Literal["commit", "none"] = "commit"
    mutants: _Count = 6
    run_timeout_seconds: _Seconds = 300.0
    test_timeout_seconds: _Seconds = 60.0


class GradingSettings(_Section, frozen=True, kw_only=True):
    """Defaults of `envfarm grade`."""

    retries: _Count = 1
    """How often a grading that lost its box is tried again."""
    level: Literal["fast", "standard", "strict"] = "standard"
    """How much is done against code that fights its grading (docs/grading.md)."""
    mixed_runs: _Count | None = None
    """Small runs in which tests are real or altered; None for as many as the level has, 0 for none."""


class ImagesSettings(_Section, frozen=True, kw_only=True):
    """Images of tasks in a container engine (docs/images.md)."""

    budget_gigabytes: _Gigabytes = 20.0
    """Disk that they and their layers in the cache may take; what was not used longest goes first."""


class Settings(_Section, frozen=True, kw_only=True):
    """All settings."""

    cache_folder: Path
    """Clones, interpreters, environments and unpacked tasks; default ``$XDG_CACHE_HOME/envfarm``."""
    sandbox: SandboxSettings = SandboxSettings()
    mine: MineSettings = MineSettings()
    grading: GradingSettings = GradingSettings()
    images: ImagesSettings = ImagesSettings()


def load_settings(start: Path, environ: Mapping[str, str]) -> Settings:
    """Return the settings that hold in a folder.

    Raises:
        SettingsError: A file is malformed, or a key or value does not exist; the message says where and what is near.
    """
    document = _read_file(start, environ)
    for name, keys, value in _variables(environ):
        _set(document, keys, value, name)
    default = Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "/nonexistent")) / ".cache") / "envfarm"
    document.setdefault("cache_folder", str(default))
    _check_keys(document, Settings, "")
    try:
        return msgspec.convert(document, Settings, strict=False, dec_hook=_decode_path)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        message = f"a setting has a wrong value ({error}): see docs/settings.md"
        raise SettingsError(" ".join(message.split())) from error


def _decode_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value and "\0" not in value:
        try:
            return Path(value).expanduser().absolute()
        except RuntimeError as error:
            message = f"there is no such user as in {value!r}"
            raise ValueError(message) from error
    message = f"cannot make {kind.__name__} of {value!r}"
    raise ValueError(message)


def _read_file(start: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    named = environ.get("ENVFARM_CONFIG")
    folders = [start.absolute(), *start.absolute().parents]
    path = Path(named) if named else next((f / FILE_NAME for f in folders if (f / FILE_NAME).is_file()), None)
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}): check ENVFARM_CONFIG"
        raise SettingsError(message) from error
    except (ValueError, RecursionError) as error:
        message = f"{path} is no TOML: {' '.join(str(error).split())}"
        raise SettingsError(message) from error


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, list[str], str]]:
    for name, value in sorted(environ.items()):
        if name.startswith(_PREFIX) and name not in _NO_SETTINGS:
            yield name, name.removeprefix(_PREFIX).lower().split("__"), value


def _set(document: dict[str, Any], keys: list[str], value: str, name: str) -> None:
    place = document
    for key in keys[:-1]:
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            message = f"{name} names a key below {key!r}, which is no section"
            raise SettingsError(message)
    place[keys[-1]] = value


def _check_keys(document: Mapping[str, Any], section: type[msgspec.Struct], place: str) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(section)}
    for key, value in document.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(fields)}"
            message = f"unknown setting {place}{key}: {hint}"
            raise SettingsError(" ".join(message.split()))
        kind = fields[key]
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
            _check_keys(value, kind, f"{place}{key}.")
