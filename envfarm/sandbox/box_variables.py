"""The variables that every command of a box has, and places and names that boxes have. PURE."""

from collections.abc import Mapping

from envfarm.sandbox.contract import ENVIRONMENT, PROJECT

HOME = "/home/user"
HOST_NAME = "envfarm"
HOSTS = f"127.0.0.1 localhost {HOST_NAME}\n::1 localhost\n"
"""What /etc/hosts says in a box without a network."""
PROXY_FOLDER = "/.envfarm/proxy"
"""Where a box sees the folder with the socket of an allowlist's proxy, read-only."""


def base_variables(image: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that every command has; the image's own win."""
    path = f"{ENVIRONMENT}/bin:{PROJECT}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    return {"PATH": path, "HOME": HOME, "LANG": "C.UTF-8", "TMPDIR": "/tmp"} | dict(image)  # noqa: S108 -- inside
