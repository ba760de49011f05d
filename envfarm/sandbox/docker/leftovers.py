"""Removes what killed drivers left: containers and folders of sockets. See `owner_mark` for whose they are."""

from contextlib import suppress
from pathlib import Path

from envfarm.errors import BoundaryError
from envfarm.sandbox.docker.container import OWNER_LABEL, PROVIDER_LABEL
from envfarm.sandbox.docker.engine import Engine
from envfarm.sandbox.owner_mark import is_dead, remove_folders


def remove_leftovers(engine: Engine, place: Path, prefix: str) -> None:
    """Remove containers and folders of drivers that are dead; what cannot be removed stays for the next time."""
    with suppress(BoundaryError):
        for container, labels in engine.list_containers(OWNER_LABEL).items():
            if is_dead(labels.get(OWNER_LABEL, "")):
                with suppress(BoundaryError):
                    engine.remove_container(container)
    remove_folders(place, prefix)


def containers_of(engine: Engine, provider: str) -> list[str]:
    """Return the ids of a provider's containers that are still there."""
    return list(engine.list_containers(f"{PROVIDER_LABEL}={provider}"))
