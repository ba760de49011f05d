"""Judges a docker-compose file that a compose command has resolved: a list of what is given, all else is refused. PURE.

Covered: whatever a service could ask of this machine (rights, devices, namespaces, folders, other containers' networks,
drivers) is refused by name, since only keys of the lists in `compose_keys` are known; a folder of the task is shown as
it was read, never as it lies on this machine. Dropped without a word, since they change nothing inside a group:
published ports, labels, container names (they become names in the group's networks), reservations, how a deployment
would be rolled out.
"""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from envfarm.errors import TaskError
from envfarm.foreign.compose_keys import (
    BOUNDS,
    CHECKS,
    DROPPED,
    READ_ELSEWHERE,
    SIMPLE,
    SPECIAL,
    RefusalError,
    checked_name,
    deployed_bounds,
    linked_service,
    read_value,
)
from envfarm.foreign.compose_mounts import TaskFiles, mounts_of
from envfarm.foreign.compose_values import (
    list_of,
    mapping_of,
    text_of,
    variables_of,
)
from envfarm.sandbox.docker.container import BOX_FOLDER
from envfarm.sandbox.services import Readiness, Service, ServiceBounds

DEFAULT_NETWORK = "default"
_MOST_SERVICES = 32


@dataclass(frozen=True, kw_only=True)
class ImageOrder:
    """Where the image of a service comes from.

    Attributes:
        name: An image that is built already; empty where a folder makes it.
        folder: Folder below environment/ that is built; empty for environment/ itself.
        dockerfile: Path of its recipe below the folder.
        arguments: Of the build.
        target: Stage that is built; empty for the last one.
    """

    name: str = ""
    folder: str = ""
    dockerfile: str = "Dockerfile"
    arguments: Mapping[str, str] = field(default_factory=dict)
    target: str = ""


@dataclass(frozen=True, kw_only=True)
class JudgedCompose:
    """What may be run.

    Attributes:
        services: By name; `main` is one of them. Their images are empty.
        images: Where the image of each comes from.
        networks: Whether each is closed by itself, by name.
        volumes: Names.
    """

    services: Mapping[str, Service]
    images: Mapping[str, ImageOrder]
    networks: Mapping[str, bool]
    volumes: tuple[str, ...]


def judge_compose(document: Any, files: TaskFiles) -> JudgedCompose:
    """Return what a resolved file asks for.

    Args:
        document: What the compose command printed, dollar signs unescaped.
        files: The files of environment/.

    Raises:
        TaskError: It asks for what is not given: names file, service and key.
    """
    try:
        top = {name: value for name, value in mapping_of(document).items() if not name.startswith("x-") and value}
        for name in top.keys() - {"name", "version", "services", "networks", "volumes"}:
            message = f"{name}: it is not given here"
            raise RefusalError(message)
        services = {name: table for name, table in mapping_of(top.get("services")).items() if _is_started(name, table)}
        if len(services) > _MOST_SERVICES:
            message = f"services: there are more than {_MOST_SERVICES}"
            raise RefusalError(message)
        networks = {name: _network(name, table) for name, table in mapping_of(top.get("networks")).items()}
        judged = {name: _service(name, mapping_of(table), files) for name, table in services.items()}
        for name in {name for service, _ in judged.values() for name in service.networks} - networks.keys():
            networks[checked_name(name, "networks")] = False
        volumes = {_volume(name, table) for name, table in mapping_of(top.get("volumes")).items()}
        volumes |= {mount.volume for service, _ in judged.values() for mount in service.volumes if mount.volume}
        _check_order({name: service for name, (service, _) in judged.items()})
    except ValueError as error:
        message = f"{files.told_as}: {' '.join(str(error).split())}"
        raise TaskError(message) from error
    return JudgedCompose(
        services={name: service for name, (service, _) in judged.items()},
        images={name: image for name, (_, image) in judged.items()},
        networks=networks,
        volumes=tuple(sorted(volumes)),
    )


def _service(name: str, table: Mapping[str, Any], files: TaskFiles) -> tuple[Service, ImageOrder]:
    place = f"services.{checked_name(name, 'services')}"
    table = {key: value for key, value in table.items() if not _is_nothing(key, value)}
    fields: dict[str, Any] = {"networks": _networks(place, table)}
    bounds: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{place}.{key}"
        if key in SIMPLE:
            fields[SIMPLE[key][0]] = read_value(where, SIMPLE[key][1], value)
        elif key in BOUNDS:
            bounds[BOUNDS[key][0]] = read_value(where, BOUNDS[key][1], value)
        elif key in SPECIAL:
            fields[SPECIAL[key][0]] = read_value(where, SPECIAL[key][1], value)
        elif key in CHECKS:
            read_value(where, CHECKS[key], value)
        elif key == "deploy":
            for bound, told in deployed_bounds(where, mapping_of(value)).items():
                bounds.setdefault(BOUNDS[bound][0], read_value(where, BOUNDS[bound][1], told))
        elif key not in DROPPED | READ_ELSEWHERE | {"links"} and not key.startswith("x-"):
            message = f"{where}: it is not given here"
            raise RefusalError(message)
    for link in list_of(table.get("links")):
        fields["waits_for"] = {linked_service(place, link): Readiness.STARTED, **fields.get("waits_for", {})}
    env = read_value(f"{place}.env_file", files.variables, table.get("env_file"))
    fields["env"] = {**env, **fields.get("env", {})}
    mounts = read_value(
        f"{place}.volumes", lambda value: mounts_of(value, files, is_main=name == "main"), table.get("volumes")
    )
    fields["tmpfs"] = (*fields.get("tmpfs", ()), *mounts.tmpfs)
    _check_targets(place, (*(mount.target for mount in (*mounts.volumes, *mounts.files)), *fields["tmpfs"]))
    service = Service(name=name, volumes=mounts.volumes, files=mounts.files, bounds=ServiceBounds(**bounds), **fields)
    return service, _image(place, table, files)


def _is_started(name: str, table: Any) -> bool:
    """Say whether a service is one that runs unless its profile is asked for; only version 2 leaves others out."""
    return name == "main" or not (isinstance(table, dict) and table.get("profiles"))


def _check_targets(place: str, targets: tuple[str, ...]) -> None:
    """Refuse mounts over the root or over what is ours in a box."""
    for target in targets:
        path = posixpath.normpath(target.partition(":")[0])
        if path in {"/", "//"} or f"{path}/".startswith(f"{BOX_FOLDER}/"):
            message = f"{place}: {path} cannot be mounted over"
            raise RefusalError(message)


def _is_nothing(key: str, value: Any) -> bool:
    """Say whether a key says nothing; an empty command says that the image's own is not run."""
    return value is None or (key not in {"command", "entrypoint"} and value in (False, "", [], {}))


def _image(place: str, table: Mapping[str, Any], files: TaskFiles) -> ImageOrder:
    build = table.get("build")
    if build is None:
        name = read_value(f"{place}.image", text_of, table.get("image"))
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._:/-]*(@sha256:[0-9a-f]{64})?", name):
            message = f"{place}.image: {name[:80]!r} names no image"
            raise RefusalError(message)
        return ImageOrder(name=name)
    build = {"context": build} if isinstance(build, str) else mapping_of(build)
    for key in build.keys() - {"context", "dockerfile", "args", "target", "labels", "pull", "no_cache", "tags"}:
        message = f"{place}.build.{key}: it is not given here"
        raise RefusalError(message)
    folder = read_value(f"{place}.build.context", files.inside, build.get("context"))
    dockerfile = posixpath.normpath(
        read_value(f"{place}.build.dockerfile", text_of, build.get("dockerfile") or "Dockerfile")
    )
    if posixpath.join(folder, dockerfile) not in files.content or dockerfile.startswith(("../", "/")):
        message = f"{place}.build: {posixpath.join(files.name, folder, dockerfile)} is no file of the task"
        raise RefusalError(message)
    return ImageOrder(
        folder=folder,
        dockerfile=dockerfile,
        arguments=read_value(f"{place}.build.args", variables_of, build.get("args")),
        target=read_value(f"{place}.build.target", text_of, build.get("target") or ""),
    )


def _networks(place: str, table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    found = {}
    own = [str(table["container_name"])] if "container_name" in table else []
    for name, value in (mapping_of(table.get("networks")) or {DEFAULT_NETWORK: None}).items():
        where = f"{place}.networks.{name}"
        options = {key: item for key, item in mapping_of(value).items() if item}
        for key in options.keys() - {"aliases", "priority"}:
            message = f"{where}.{key}: it is not given here"
            raise RefusalError(message)
        aliases = [read_value(where, text_of, alias) for alias in [*list_of(options.get("aliases")), *own]]
        found[checked_name(name, where)] = tuple(checked_name(alias, where) for alias in aliases)
    return found


def _network(name: str, table: Any) -> bool:
    """Return whether a network of the file is closed by itself."""
    checked_name(name, "networks")
    for key, value in mapping_of(table).items():
        is_known = key in {"name", "internal", "labels", "attachable", "external"} or (key, value) == (
            "driver",
            "bridge",
        )
        if (not is_known and value) or (key == "external" and value):
            message = f"networks.{name}.{key}: it is not given here"
            raise RefusalError(message)
    return mapping_of(table).get("internal") is True


def _volume(name: str, table: Any) -> str:
    checked_name(name, "volumes")
    for key, value in mapping_of(table).items():
        if key not in {"name", "labels"} and (key, value) != ("driver", "local") and value:
            message = f"volumes.{name}.{key}: it is not given here"
            raise RefusalError(message)
    return name


def _check_order(services: Mapping[str, Service]) -> None:
    for name, service in services.items():
        for other, readiness in service.waits_for.items():
            if other not in services:
                message = f"services.{name}.depends_on: there is no service {other!r}"
                raise RefusalError(message)
            if other == "main" and readiness is not Readiness.STARTED:
                message = f"services.{name}.depends_on: main can only have started, as the work is done in it"
                raise RefusalError(message)
