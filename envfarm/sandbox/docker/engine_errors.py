"""What a container engine says went wrong, as errors of `envfarm.errors`; and names of images. PURE."""

import re
from collections.abc import Mapping
from typing import Any

from envfarm.errors import (
    ContainerImageMissingError,
    ContainerImagePullError,
    EngineDiskFullError,
    ImageBuildError,
    SandboxStartError,
)

_QUOTED_LINES = 20
_NOT_FOUND = 404
_NO_SPACE = "no space left on device"
_NO_ADDRESSES = "non-overlapping IPv4 address pool"
_NO_REGISTRY = re.compile(r'(Get|Head) "https?://[^"]+/v2/|toomanyrequests:')
"""How a daemon's last word begins where it came to no registry, or to one that has had enough."""


def split_reference(reference: str) -> tuple[str, str]:
    """Return name and tag, or name and digest; ``latest`` where there is neither."""
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    head, colon, tag = reference.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (reference, "latest")


def api_error(what: str, status: int, told: str, *, building: bool) -> SandboxStartError | ImageBuildError:
    """Return what a refusal of the engine is."""
    if _NO_SPACE in told:
        return EngineDiskFullError(f"the Docker daemon has no room left for {what}: {told}")
    if status == _NOT_FOUND and "No such image" in told:
        return ContainerImageMissingError(f"there is no image {what} on this machine: {told}")
    if _NO_ADDRESSES in told:
        more = "run fewer tasks with services at once, or give it more default-address-pools"
        return SandboxStartError(f"the Docker daemon has no addresses left for {what}: {more}")
    if building:
        return build_error(f"{what} could not be built", told)
    return SandboxStartError(f"the Docker daemon refuses {what}: {told}", retryable=status >= 500)  # noqa: PLR2004 -- HTTP


def pull_error(reference: str, told: str) -> SandboxStartError:
    """Return what a failed pull is."""
    if _NO_SPACE in told:
        return EngineDiskFullError(f"the Docker daemon has no room left for {reference}: {told}")
    if "not found" in told or "manifest unknown" in told or "does not exist" in told:
        return ContainerImageMissingError(f"there is no image {reference}: {told}")
    return ContainerImagePullError(f"the image {reference} could not be brought: {told}")


def raise_told(event: Mapping[str, Any], what: str, told: str) -> None:
    """Raise what an event of a build or a load tells, if anything."""
    if "error" in event:
        raise build_error(what, told)


def build_error(what: str, told: str) -> ImageBuildError | ContainerImagePullError | EngineDiskFullError:
    """Return what a failed build or load is; a registry that is not reached is not the fault of who wrote a recipe."""
    tail = "\n".join(told.strip().splitlines()[-_QUOTED_LINES:])
    if _NO_SPACE in tail.lower():
        return EngineDiskFullError(f"{what}, since the Docker daemon has no room left:\n{tail}")
    if _NO_REGISTRY.match(tail.rpartition("\n")[2]):
        return ContainerImagePullError(f"{what}:\n{tail}")
    return ImageBuildError(f"{what}:\n{tail}")
