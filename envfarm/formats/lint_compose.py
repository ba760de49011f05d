"""Harbor's lint rules about docker-compose files. PURE.

Not covered: files that a compose file includes or extends, and what the host's variables say.
"""

import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

from envfarm.formats.lint_commands import lint_image
from envfarm.formats.yaml_text import parse_yaml

Finding = tuple[str, str]


def lint_compose(text: str, name: str, strays: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield (rule, message) of a compose file.

    Args:
        text: The file.
        name: Its path relative to the task, against which relative mounts are read.
        strays: Links of the task that lead out of it.
    """
    try:
        document = parse_yaml(text)
    except ValueError as error:
        yield "invalid-task-config", f"it is no YAML ({error})"
        return
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict):
        yield "invalid-task-config", "it has no services"
        return
    volumes = _bind_volumes(document.get("volumes"))
    built = {
        _text(service.get("image")) for service in services.values() if isinstance(service, dict) and "build" in service
    }
    for key, service in services.items():
        if not isinstance(service, dict):
            yield "invalid-task-config", f"the service {key} is no mapping"
            continue
        image = _text(service.get("image"))
        if image and image not in built:
            yield from lint_image(image, f"services.{key}.image")
        yield from _lint_rights(f"services.{key}", service)
        mounts = service.get("volumes")
        for mount in mounts if isinstance(mounts, list) else ():
            source, is_read_only = _bind(mount, volumes)
            if source:
                yield from _lint_bind(f"services.{key}", source, posixpath.dirname(name), strays)
                if not is_read_only:
                    yield "compose-writable-bind-mount", f"services.{key} can write to {source}"


def _lint_rights(place: str, service: dict[Any, Any]) -> Iterator[Finding]:
    hooks = [hook for name in ("post_start", "pre_stop") for hook in _list(service.get(name)) if isinstance(hook, dict)]
    if any(item.get("privileged") in {True, "true"} for item in (service, *hooks) if _is_plain(item.get("privileged"))):
        yield "compose-privileged", f"{place} is privileged"
    if service.get("cap_add"):
        yield "compose-additional-capabilities", f"{place} asks for capabilities"


def _lint_bind(place: str, source: str, folder: str, strays: Sequence[str]) -> Iterator[Finding]:
    if source.startswith("~"):
        return
    local = posixpath.normpath(posixpath.join("/task", folder, source))
    inside = local.removeprefix("/task/") if local.startswith("/task/") else None
    is_link = inside is not None and any(inside == stray or inside.startswith(f"{stray}/") for stray in strays)
    if local != "/task" and (inside is None or is_link):
        yield "compose-external-bind-mount", f"{place} mounts {source} from outside of the task"
    if is_link:
        yield "compose-symlink-bind-mount", f"{place} mounts {source} through a link out of the task"


def _bind_volumes(volumes: Any) -> dict[str, tuple[str, bool]]:
    """Return named volumes that are folders of the host: their path, and whether they are read-only."""
    found = {}
    for name, volume in volumes.items() if isinstance(volumes, dict) else ():
        options = volume.get("driver_opts") if isinstance(volume, dict) else None
        if isinstance(options, dict) and volume.get("driver", "local") == "local":
            flags = _text(options.get("o")).split(",")
            access = [flag for flag in flags if flag in {"ro", "rw"}]
            if {"bind", "rbind"} & set(flags) and _text(options.get("device")):
                found[str(name)] = (_text(options["device"]), access[-1:] == ["ro"])
    return found


def _bind(mount: Any, volumes: dict[str, tuple[str, bool]]) -> tuple[str, bool]:
    """Return the host's path of a mount, and whether it is read-only; an empty path where the host has none."""
    if isinstance(mount, dict):
        source, is_read_only = _text(mount.get("source")), mount.get("read_only") is True
        is_bind = mount.get("type") == "bind"
    else:
        source, _, rest = str(mount).partition(":")
        is_read_only = "ro" in rest.partition(":")[2].split(",")
        is_bind = source.startswith(("/", ".", "~"))
        source = source if rest else ""
    if source in volumes and not is_bind:
        return volumes[source][0], is_read_only or volumes[source][1]
    return (source if is_bind else ""), is_read_only


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | str)
