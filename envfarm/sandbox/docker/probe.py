"""Tries what the docker sandbox needs on this machine."""

from envfarm.errors import EnvfarmError, MissingToolError
from envfarm.sandbox.docker.base_image import find_base
from envfarm.sandbox.docker.compose_command import find_compose
from envfarm.sandbox.docker.engine import open_engine
from envfarm.sandbox.docker.options import OWN_BASE
from envfarm.sandbox.docker.provider import can_bound_layers, refuse_mapped_users
from envfarm.sandbox.finding import Finding


def probe_docker() -> Finding:
    """Return whether a daemon answers to this user, and what of a box it can bound."""
    try:
        with open_engine() as engine:
            refuse_mapped_users(engine)
            told = engine.facts()
            bounded = (
                "bounded" if can_bound_layers(engine) else "not bounded (overlay2 on xfs with pquota, btrfs, zfs are)"
            )
            version = f"{told.get('ServerVersion')}, {told.get('Driver')}"
            said = f"{version}; what boxes with an image of their own write is {bounded}; {_compose()}"
            try:
                find_base(engine, OWN_BASE)
            except MissingToolError:
                return Finding(name="Docker", works=False, detail=f"{said}; no base image", mend="envfarm images base")
    except MissingToolError as error:
        detail, _, mend = str(error).partition(": ")
        return Finding(name="Docker", works=False, detail=f"{detail} (not needed)", mend=mend)
    except EnvfarmError as error:
        return Finding(name="Docker", works=False, detail=f"{error} (not needed)")
    return Finding(name="Docker", works=True, detail=said)


def _compose() -> str:
    try:
        find_compose("it")
    except MissingToolError:
        return "no compose command, which tasks with services need"
    return "tasks may have services"
