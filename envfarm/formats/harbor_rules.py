"""Values of task.toml that contradict each other, and artifacts that overlap (Harbor 1.4). PURE."""

import ipaddress
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import PurePosixPath

from envfarm.formats.harbor_config import AgentTable, Artifact, Config, EnvironmentTable, VerifierTable

LOG_FOLDERS = ("/logs/verifier", "/logs/agent")
PUBLISHED = "/logs/artifacts"
"""Taken from the agent's container in any case."""
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*/[a-zA-Z0-9][a-zA-Z0-9._-]*")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)([GMK])\s*", re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_STEP_NAME = re.compile(r'[^<>:"/\\|?*\x00-\x1f\x7f]+(?<![. ])')
_MEGABYTES = {"G": 1024.0, "M": 1.0, "K": 1 / 1024}


def contradictions(config: Config) -> Iterator[str]:
    """Yield one sentence per value that Harbor refuses."""
    if config.task is not None and (not _NAME.fullmatch(config.task.name) or ".." in config.task.name):
        yield f"task.name is {config.task.name!r}: it has to be ORG/NAME"
    yield from _environment(config.environment, "environment")
    yield from _phase(config.agent, "agent")
    yield from _verifier(config.verifier, "verifier")
    yield from (text for item in config.artifacts for text in _artifact(item, "artifacts"))
    names: set[str] = set()
    for number, step in enumerate(config.steps or []):
        place = f"steps[{number}]"
        key = unicodedata.normalize("NFC", step.name).casefold()
        if not step.name.strip() or not _STEP_NAME.fullmatch(step.name) or key in names:
            yield f"{place}.name is {step.name!r}: names of steps are names of folders, each once"
        names.add(key)
        yield from _phase(step.agent, f"{place}.agent")
        yield from _verifier(step.verifier, f"{place}.verifier")
        yield from (text for item in step.artifacts for text in _artifact(item, f"{place}.artifacts"))


def _environment(table: EnvironmentTable, place: str) -> Iterator[str]:
    yield from _phase(table, place)
    if table.os.lower() not in {"linux", "windows"}:
        yield f"{place}.os is {table.os!r}: linux or windows"
    for old, new, value, number in (
        ("memory", "memory_mb", table.memory, table.memory_mb),
        ("storage", "storage_mb", table.storage, table.storage_mb),
    ):
        if value is None:
            continue
        match = _SIZE.fullmatch(value)
        if match is None:
            yield f"{place}.{old} is {value!r}: such as 4G"
        elif number is not None and float(match[1]) * _MEGABYTES[match[2].upper()] // 1 != number:
            yield f"{place}.{old} is {value} and {new} is {number}"
    if table.tpu is not None and not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)+", table.tpu.topology.strip()):
        yield f"{place}.tpu.topology is {table.tpu.topology!r}: such as 2x4"
    for server in table.mcp_servers:
        if server.transport == "stdio" and (not server.command or server.headers):
            yield f"{place}.mcp_servers: {server.name} speaks stdio: it needs a command and takes no headers"
        if server.transport != "stdio" and not server.url:
            yield f"{place}.mcp_servers: {server.name} needs a url"


def megabytes_of(size: str | None) -> int | None:
    """Return what a size such as ``4G`` is in MiB, rounded down; None for none, or where it is no size."""
    match = None if size is None else _SIZE.fullmatch(size)
    return None if match is None else int(float(match[1]) * _MEGABYTES[match[2].upper()])


def _verifier(table: VerifierTable, place: str) -> Iterator[str]:
    yield from _phase(table, place)
    if table.environment is not None:
        yield from _environment(table.environment, f"{place}.environment")
        if table.environment_mode == "shared":
            yield f"{place}.environment_mode is shared, and there is {place}.environment"


def _phase(table: AgentTable | VerifierTable | EnvironmentTable, place: str) -> Iterator[str]:
    hosts = table.allowed_hosts
    if table.network_mode != "allowlist" and (hosts if isinstance(table, EnvironmentTable) else hosts is not None):
        needed = table.network_mode is None or bool(hosts)
        if needed:
            yield f"{place}.allowed_hosts is there, and network_mode is not allowlist"
    for host in hosts or ():
        if not _is_host(host):
            yield f"{place}.allowed_hosts: {host!r} is no name, address or network"


def _is_host(text: str) -> bool:
    name = text.strip().lower().rstrip(".")
    try:
        ipaddress.ip_network(name)
    except ValueError:
        labels = name.removeprefix("*.").split(".")
        return all(_LABEL.fullmatch(label) for label in labels)
    return True


def _artifact(item: str | Artifact, place: str) -> Iterator[str]:
    if isinstance(item, str):
        item = Artifact(source=item)
    if ".." in PurePosixPath(item.source).parts:
        yield f"{place}: {item.source!r} goes up"
    if item.service not in {None, "main"} and not item.source.startswith("/"):
        yield f"{place}: {item.source!r} of {item.service} has to be absolute"
    if item.destination:
        path = PurePosixPath(item.destination)
        if "\\" in item.destination or path.is_absolute() or not path.parts or ".." in path.parts:
            yield f"{place}: the destination {item.destination!r} has to be relative, with slashes, and stay inside"
        if str(path) == "manifest.json":
            yield f"{place}: the destination manifest.json is Harbor's own"


def overlaps(entries: Sequence[str | Artifact]) -> Iterator[str]:
    """Yield one sentence per pair of artifacts that would be written over each other."""
    items = [Artifact(source=item) if isinstance(item, str) else item for item in entries]
    if not any(item.source.rstrip("/") == PUBLISHED and _service(item) == "main" for item in items):
        items.insert(0, Artifact(source=PUBLISHED))
    for first, second in combinations(items, 2):
        one, other = _output(first), _output(second)
        if not _covers(first, second) and (one == other or one in other.parents or other in one.parents):
            yield f"{first.source} and {second.source} are both written to {one if one in other.parents else other}"


def overlaps_logs(item: str | Artifact) -> bool:
    """Say whether an artifact would carry the logs of agent or verifier."""
    source = PurePosixPath("/" + (item if isinstance(item, str) else item.source).lstrip("/"))
    return any(source.is_relative_to(folder) or PurePosixPath(folder).is_relative_to(source) for folder in LOG_FOLDERS)


def _covers(first: Artifact, second: Artifact) -> bool:
    """Say whether the first brings all of the second to the same place."""
    source, inner = PurePosixPath(first.source), PurePosixPath(second.source)
    if _service(first) != _service(second) or not inner.is_relative_to(source):
        return False
    if inner == source and _output(first) == _output(second):
        return first.exclude == second.exclude
    return not first.exclude and _output(second) == _output(first) / inner.relative_to(source)


def _output(item: Artifact) -> PurePosixPath:
    parts = PurePosixPath(item.destination or item.source).parts
    return PurePosixPath(*(part for part in parts if part not in {"/", "//", ".."}))


def _service(item: Artifact) -> str:
    return item.service or "main"
