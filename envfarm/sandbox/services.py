"""Services beside a box: what a lease may ask for, and nothing that reaches this machine. PURE.

A record has no word for privileges, devices, namespaces or folders of this machine, so a provider that makes what it
says gives none of them away.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Readiness(StrEnum):
    """What a service waits for in another one before it starts."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    ENDED = "service_completed_successfully"


@dataclass(frozen=True, kw_only=True)
class ServiceCheck:
    """How the engine asks a service for its health.

    Attributes:
        test: ``CMD`` and words, ``CMD-SHELL`` and a command line, or ``NONE`` against the image's own check.
        interval_seconds: Between two tries; None for the engine's own.
        timeout_seconds: Of one try; None for the engine's own.
        start_period_seconds: How long failures do not count; None for the engine's own.
        retries: Failures in a row that count as unhealthy; None for the engine's own.
    """

    test: tuple[str, ...]
    interval_seconds: float | None = None
    timeout_seconds: float | None = None
    start_period_seconds: float | None = None
    retries: int | None = None


@dataclass(frozen=True, kw_only=True)
class VolumeMount:
    """A volume of the group at a place.

    Attributes:
        volume: Its name in the group; empty for one of the service alone.
        target: Where.
        is_read_only: Whether it cannot be written there.
    """

    volume: str
    target: str
    is_read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class ReadOnlyFiles:
    """Files of a task at a place, which cannot be written.

    Attributes:
        target: Where.
        content: By path below it; the one file with the path ``""`` is the place itself.
        programs: Those with the executable bit.
    """

    target: str
    content: Mapping[str, bytes] = field(repr=False)
    programs: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class ServiceBounds:
    """Bounds on one service; None for those of the box.

    Attributes:
        memory_bytes: Of all its processes together, swap included.
        cpu_cores: Processors at one time.
        process_count: Processes and threads at one time.
        shared_memory_bytes: Size of its /dev/shm; None for the engine's own.
        ulimits: Soft and hard limit by name.
    """

    memory_bytes: int | None = None
    cpu_cores: float | None = None
    process_count: int | None = None
    shared_memory_bytes: int | None = None
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service.

    Attributes:
        name: By which others reach it.
        image: Of the engine, and on this machine; of the box's own service the lease's.
        command: None for the image's own.
        entrypoint: None for the image's own.
        env: Variables.
        user: None for the image's own.
        working_directory: None for the image's own.
        hostname: None for one of the engine's.
        networks: Further names by network of the group.
        waits_for: Services that come first, and how far they have to be.
        check: Its health; None for the image's own check.
        volumes: Volumes of the group.
        files: Files of the task.
        tmpfs: Places in memory, with the engine's options behind a colon.
        hosts: Addresses of further names.
        bounds: Bounds on it.
        dropped_capabilities: What it gives up beside what every service does.
        stop_signal: None for the image's own.
        retries_failures: Whether it is started again a few times when it fails.
        has_init: Whether an init of the engine is its first process.
        has_read_only_root: Whether its image's files cannot be changed.
        keeps_stdin: Whether its standard input stays open.
        has_terminal: Whether it has a terminal.
    """

    name: str
    image: str = ""
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    working_directory: str | None = None
    hostname: str | None = None
    networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    waits_for: Mapping[str, Readiness] = field(default_factory=dict)
    check: ServiceCheck | None = None
    volumes: tuple[VolumeMount, ...] = ()
    files: tuple[ReadOnlyFiles, ...] = ()
    tmpfs: tuple[str, ...] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)
    bounds: ServiceBounds = ServiceBounds()
    dropped_capabilities: tuple[str, ...] = ()
    stop_signal: str | None = None
    retries_failures: bool = False
    has_init: bool = False
    has_read_only_root: bool = False
    keeps_stdin: bool = False
    has_terminal: bool = False


@dataclass(frozen=True, kw_only=True)
class ServiceGroup:
    """The services that live as long as a box does.

    Attributes:
        main: The box itself as one of them; its image, bounds and user are the lease's.
        others: The services beside it.
        networks: Networks of the group, and whether each is closed even where the lease's network is public.
        volumes: Volumes of the group.
        start_seconds: Bound on the time until all are ready.
    """

    main: Service
    others: tuple[Service, ...] = ()
    networks: Mapping[str, bool] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    start_seconds: float = 600.0

    @property
    def names(self) -> tuple[str, ...]:
        """By which the services beside the box are reached."""
        every = [
            (item.name, *(alias for aliases in item.networks.values() for alias in aliases)) for item in self.others
        ]
        return tuple(dict.fromkeys(name for names in every for name in names))
