"""Removes what killed drivers left: containers, networks, volumes, folders. See `owner_mark` for whose they are."""

from contextlib import suppress
from functools import partial
from pathlib import Path

from envfarm.errors import BoundaryError
from envfarm.sandbox.docker.container import OWNER_LABEL, PROVIDER_LABEL
from envfarm.sandbox.docker.engine import Engine
from envfarm.sandbox.docker.engine_groups import list_networks, list_volumes, remove_network, remove_volume
from envfarm.sandbox.owner_mark import is_dead, remove_folders


def remove_leftovers(engine: Engine, place: Path, prefix: str) -> None:
    """Remove what drivers that are dead have at the engine, and folders; what cannot be removed stays for next time."""
    for listed, remove in (
        (engine.list_containers, engine.remove_container),
        (partial(list_networks, engine), partial(remove_network, engine)),
        (partial(list_volumes, engine), partial(remove_volume, engine)),
    ):
        with suppress(BoundaryError):
            for name, labels in listed(OWNER_LABEL).items():
                if is_dead(labels.get(OWNER_LABEL, "")):
                    with suppress(BoundaryError):
                        remove(name)
    remove_folders(place, prefix)


def left_of(engine: Engine, provider: str) -> list[str]:
    """Return what the engine still has of a provider: ids of containers and networks, names of volumes."""
    label = f"{PROVIDER_LABEL}={provider}"
    return [*engine.list_containers(label), *list_networks(engine, label), *list_volumes(engine, label)]
