"""Values of task.toml that no box can have: Harbor takes any number, and to an engine 0 means "no bound". PURE."""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from envfarm.formats.harbor_config import AgentTable, Config, EnvironmentTable, Healthcheck, VerifierTable
from envfarm.formats.harbor_rules import megabytes_of

_LONGEST_SECONDS = 365 * 86_400.0
_MOST_CORES = 4096
_MOST_MEGABYTES = 1 << 30
_LARGEST_ID = (1 << 32) - 2
_IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._:/-]*(@sha256:[0-9a-f]{64})?")
_VARIABLE = re.compile(r"[^=\0]+")


def impossible_values(config: Config) -> Iterator[str]:
    """Yield one sentence per value that no box can have."""
    yield from _environment(config.environment, "environment")
    yield from _phase(config.agent, "agent")
    yield from _verifier(config.verifier, "verifier")
    yield from _variables(config.solution.env, "solution.env")
    for number, step in enumerate(config.steps or []):
        place = f"steps[{number}]"
        yield from _phase(step.agent, f"{place}.agent")
        yield from _verifier(step.verifier, f"{place}.verifier")
        yield from _health(step.healthcheck, f"{place}.healthcheck")
        bounds = step.min_reward if isinstance(step.min_reward, dict) else {"min_reward": step.min_reward}
        for key, bound in bounds.items():
            if bound is not None and math.isnan(bound):
                yield f"{place}.min_reward: {key} is no number"


def _environment(table: EnvironmentTable, place: str) -> Iterator[str]:
    yield from _time(table.build_timeout_sec, f"{place}.build_timeout_sec")
    yield from _amount(table.cpus, f"{place}.cpus", _MOST_CORES)
    for name, told in (("memory", table.memory), ("storage", table.storage)):
        number: int | None = getattr(table, f"{name}_mb")
        yield from _amount(megabytes_of(told) if number is None else number, f"{place}.{name}_mb", _MOST_MEGABYTES)
    yield from _variables(table.env, f"{place}.env")
    yield from _health(table.healthcheck, f"{place}.healthcheck")
    if table.docker_image is not None and not _IMAGE.fullmatch(table.docker_image):
        yield f"{place}.docker_image is {table.docker_image[:80]!r}, which names no image"
    if table.workdir is not None:
        path = PurePosixPath(table.workdir)
        if not path.is_absolute() or ".." in path.parts or "\0" in table.workdir:
            yield f"{place}.workdir is {table.workdir[:80]!r}: it has to be absolute"


def _verifier(table: VerifierTable, place: str) -> Iterator[str]:
    yield from _phase(table, place)
    yield from _variables(table.env, f"{place}.env")
    for collect in table.collect:
        yield from _time(collect.timeout_sec, f"{place}.collect.timeout_sec")
        yield from _user(collect.user, f"{place}.collect.user")
    if table.environment is not None:
        yield from _environment(table.environment, f"{place}.environment")


def _phase(table: AgentTable | VerifierTable, place: str) -> Iterator[str]:
    yield from _time(table.timeout_sec, f"{place}.timeout_sec")
    yield from _user(table.user, f"{place}.user")


def _health(check: Healthcheck | None, place: str) -> Iterator[str]:
    if check is None:
        return
    yield from _time(check.timeout_sec, f"{place}.timeout_sec")
    for name in ("interval_sec", "start_period_sec", "start_interval_sec"):
        yield from _time(getattr(check, name), f"{place}.{name}", least=0.0)


def _time(seconds: float | None, place: str, *, least: float = 1e-9) -> Iterator[str]:
    if seconds is not None and not least <= seconds <= _LONGEST_SECONDS:
        yield f"{place} is {seconds:g}: it has to be a number of seconds, at most a year"


def _amount(value: float | None, place: str, most: int) -> Iterator[str]:
    if value is not None and not 0 < value <= most:
        yield f"{place} is {value:g}: it has to be above 0, and at most {most}"


def _user(user: str | int | None, place: str) -> Iterator[str]:
    if user is None:
        return
    numbers = [int(part) for part in str(user).split(":") if part.lstrip("-").isdecimal()]
    if not str(user) or "\0" in str(user) or any(not 0 <= number <= _LARGEST_ID for number in numbers):
        yield f"{place} is {str(user)[:80]!r}, which no user is"


def _variables(values: Mapping[str, str], place: str) -> Iterator[str]:
    for name, value in values.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            yield f"{place}: {name[:80]!r} is no variable that a process can have"
