"""Harbor's lint rules about docker-compose files. PURE."""

from collections.abc import Iterator
from typing import Any

import yaml

Finding = tuple[str, str]


def lint_compose(text: str) -> Iterator[Finding]:
    """Yield (rule, message) of a compose file."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        yield "invalid-task-config", f"it is no YAML: {' '.join(str(error).split())[:200]}"
        return
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict):
        yield "invalid-task-config", "it has no services"
        return
    for name, service in services.items():
        if isinstance(service, dict):
            yield from _service(str(name), service)


def _service(name: str, service: dict[str, Any]) -> Iterator[Finding]:
    if service.get("privileged") is True:
        yield "compose-privileged", f"the service {name} is privileged"
    if service.get("cap_add"):
        yield "compose-additional-capabilities", f"the service {name} adds capabilities"
    image = service.get("image")
    if isinstance(image, str) and "@sha256:" not in image and "build" not in service:
        yield "unpinned-image", f"the image {image} of {name} is not named by its digest"
    for volume in service.get("volumes") or []:
        source, read_only = _bind(volume)
        if source is None:
            continue
        if not read_only:
            yield "compose-writable-bind-mount", f"the service {name} can write to {source}"
        if source.startswith(("/", "~", "..")) or "/../" in source:
            yield "compose-external-bind-mount", f"the service {name} mounts {source} from outside of the task"


def _bind(volume: Any) -> tuple[str | None, bool]:
    """Return the host's path of a bind mount, and whether it is read-only; None for a named volume."""
    if isinstance(volume, dict):
        bind = volume.get("type") == "bind" and isinstance(volume.get("source"), str)
        return (volume["source"] if bind else None), bool(volume.get("read_only"))
    parts = str(volume).split(":")
    if len(parts) < 2 or not parts[0].startswith(("/", ".", "~")):  # noqa: PLR2004 -- host:container
        return None, True
    return parts[0], "ro" in parts[2:]
