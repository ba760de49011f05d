"""task.toml as Harbor 1.4 knows it: its tables and fields, and which values contradict each other. PURE.

Harbor drops fields that it does not know without a word; `unknown_fields` names them.
"""

import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

NetworkMode = Literal["public", "no-network", "allowlist"]


class _Table(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A table of task.toml; what it does not know is skipped."""


class Author(_Table):
    """One of [task].authors."""

    name: str
    email: str | None = None


class PackageTable(_Table):
    """[task]."""

    name: str
    version: str | None = None
    description: str = ""
    authors: list[Author] = []
    keywords: list[str] = []


class AgentTable(_Table):
    """[agent]."""

    timeout_sec: float | None = None
    user: str | int | None = None
    network_mode: NetworkMode | None = None
    allowed_hosts: list[str] | None = None


class Healthcheck(_Table):
    """[environment.healthcheck]; times in seconds."""

    command: str
    interval_sec: float = 5.0
    timeout_sec: float = 30.0
    start_period_sec: float = 0.0
    start_interval_sec: float = 5.0
    retries: int = 3


class Tpu(_Table):
    """[environment].tpu."""

    type: str
    topology: str


class McpServer(_Table):
    """One of [environment].mcp_servers."""

    name: str
    transport: Literal["stdio", "sse", "streamable-http", "http"] = "sse"
    url: str | None = None
    command: str | None = None
    args: list[str] = []
    headers: dict[str, str] = {}


class EnvironmentTable(_Table):
    """[environment] and [verifier.environment]."""

    build_timeout_sec: float = 600.0
    docker_image: str | None = None
    os: str = "linux"
    cpus: int | float | None = None
    memory_mb: int | None = None
    storage_mb: int | None = None
    gpus: int | None = None
    gpu_types: list[str] | None = None
    tpu: Tpu | None = None
    mcp_servers: list[McpServer] = []
    env: dict[str, str] = {}
    skills_dir: str | None = None
    healthcheck: Healthcheck | None = None
    workdir: str | None = None
    network_mode: NetworkMode = "public"
    allowed_hosts: list[str] | None = None
    allow_internet: bool | None = None
    memory: str | None = None
    storage: str | None = None


class Collect(_Table):
    """One of [[verifier.collect]]."""

    command: str
    service: str = "main"
    timeout_sec: float = 60.0
    user: str | int | None = None


class VerifierTable(_Table):
    """[verifier]."""

    timeout_sec: float = 600.0
    env: dict[str, str] = {}
    user: str | int | None = None
    environment_mode: Literal["shared", "separate"] | None = None
    environment: EnvironmentTable | None = None
    collect: list[Collect] = []
    network_mode: NetworkMode | None = None
    allowed_hosts: list[str] | None = None

    def is_separate(self, inherited: bool = False) -> bool:  # noqa: FBT001, FBT002 -- reads as a claim
        """Say whether it runs in a container of its own; a table that does not say inherits."""
        if self.environment_mode is not None:
            return self.environment_mode == "separate"
        return self.environment is not None or inherited


class Artifact(_Table):
    """One of `artifacts`, as a table."""

    source: str
    destination: str | None = None
    exclude: list[str] = []
    service: str | None = None


class Step(_Table):
    """One of [[steps]]."""

    name: str
    agent: AgentTable = msgspec.field(default_factory=AgentTable)
    verifier: VerifierTable = msgspec.field(default_factory=VerifierTable)
    min_reward: float | dict[str, float] | None = None
    healthcheck: Healthcheck | None = None
    artifacts: list[str | Artifact] = []


class SolutionTable(_Table):
    """[solution]."""

    env: dict[str, str] = {}


class Config(_Table):
    """All of task.toml."""

    schema_version: str = "1.4"
    version: str | None = None
    source: str | None = None
    multi_step_reward_strategy: Literal["mean", "final"] | None = None
    artifacts: list[str | Artifact] = []
    task: PackageTable | None = None
    metadata: dict[str, Any] = {}
    agent: AgentTable = msgspec.field(default_factory=AgentTable)
    verifier: VerifierTable = msgspec.field(default_factory=VerifierTable)
    environment: EnvironmentTable = msgspec.field(default_factory=EnvironmentTable)
    solution: SolutionTable = msgspec.field(default_factory=SolutionTable)
    steps: list[Step] | None = None


def read_config(document: Mapping[str, Any]) -> Config | str:
    """Return the tables, or in words why they are not Harbor's."""
    try:
        return msgspec.convert(document, Config, strict=False)
    except (msgspec.ValidationError, ValueError, TypeError, OverflowError, RecursionError) as error:
        return " ".join(str(error).split())


def unknown_fields(value: Any, kind: Any = Config, place: str = "") -> Iterator[str]:
    """Yield one sentence per field that Harbor does not know, with the nearest that it knows."""
    for branch in _branches(kind, value):
        if isinstance(value, dict) and isinstance(branch, type) and issubclass(branch, _Table):
            known = {field.encode_name: field.type for field in msgspec.structs.fields(branch)}
            for key, child in value.items():
                told = key if key.isprintable() else repr(key)
                where = f"{place}.{told}" if place else told
                if key in known:
                    yield from unknown_fields(child, known[key], where)
                else:
                    near = difflib.get_close_matches(key, known, n=1)
                    hint = f"; did you mean {near[0]}" if near else ""
                    yield f"{where} is no field that Harbor knows{hint}"
        elif isinstance(value, list) and typing.get_origin(branch) is list:
            for number, child in enumerate(value):
                yield from unknown_fields(child, typing.get_args(branch)[0], f"{place}[{number}]")


def _branches(kind: Any, value: Any) -> tuple[Any, ...]:
    """Return what of a union fits a table or a list."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if isinstance(value, dict):
        return tuple(item for item in options if isinstance(item, type) and issubclass(item, _Table))
    return tuple(item for item in options if typing.get_origin(item) is list)
