"""The variables that every command of a box has, and places that boxes have. PURE."""

from collections.abc import Mapping

from envfarm.sandbox.contract import ENVIRONMENT, PROJECT

HOME = "/home/user"
PROXY_FOLDER = "/.envfarm/proxy"
"""Where a box sees the folder with the socket of an allowlist's proxy, read-only."""


def base_variables(image: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that every command has; the image's own win."""
    path = f"{ENVIRONMENT}/bin:{PROJECT}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    return {"PATH": path, "HOME": HOME, "LANG": "C.UTF-8", "TMPDIR": "/tmp"} | dict(image)  # noqa: S108 -- inside
