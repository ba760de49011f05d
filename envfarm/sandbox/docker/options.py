"""The options of the docker sandbox, from ``[sandbox.options]`` of the settings. PURE."""

from collections.abc import Mapping

import msgspec

from envfarm.errors import SettingsError

OWN_BASE = "debian"
"""The base that this machine makes by itself, with mmdebstrap."""


class DockerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How boxes are made.

    Attributes:
        base: Image of boxes that are made of folders: ``debian``, made here with mmdebstrap, or a reference such as
            ``python:3.12-slim@sha256:...``, which is pulled.
        warm_boxes: How many boxes stand ready in all, for the requests that came last.
        pins: Addresses of hosts of allowlists, such as your own mirror; others are looked up and have to be public.
    """

    base: str = OWN_BASE
    warm_boxes: int = 0
    pins: dict[str, str] = {}


def read_options(options: Mapping[str, object]) -> DockerOptions:
    """Return the options.

    Raises:
        SettingsError: One is unknown or of the wrong kind.
    """
    try:
        read = msgspec.convert(options, DockerOptions)
    except msgspec.ValidationError as error:
        message = f"[sandbox.options] of the docker sandbox: {error} (it has: base, warm_boxes, pins)"
        raise SettingsError(message) from error
    if read.warm_boxes < 0 or not read.base:
        message = "[sandbox.options] of the docker sandbox: warm_boxes is 0 or more, and base names an image"
        raise SettingsError(message)
    return read
