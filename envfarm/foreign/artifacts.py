"""Takes files and folders out of a box, as an archive that may be unpacked elsewhere."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from envfarm.errors import VerifierError
from envfarm.foreign.artifact_archive import clean_archive, with_full_names
from envfarm.foreign.box import Box

_PACKED = PurePosixPath("/tmp/.envfarm-artifact.tar")  # noqa: S108 -- inside the box
MOST_BYTES = 1 << 30
"""Of one artifact, and of all of a step together: this machine holds them until the judging box has them."""
_PACK = """
rm -f -- "$2" && cd / || exit 1
if [ -e "$1" ]; then tar -cf "$2" -- "${1#/}"; [ $? -le 1 ]; else : > "$2"; fi
"""
"""A 1 of tar means that a file changed while it was read."""


async def take_artifact(box: Box, source: str, exclude: Sequence[str] = ()) -> bytes:
    """Return a file or folder of a box as a clean archive, names relative to the root; empty where there is none.

    Args:
        box: The box.
        source: Its path, relative ones from the working directory.
        exclude: What stays behind; see `clean_archive`.

    Raises:
        VerifierError: It is too large, or the box makes no archive of it.
    """
    place = box.working_directory / source
    await box.own(_PACK, str(place), str(_PACKED))
    try:
        archive = await box.root.read_file(_PACKED, limit_bytes=MOST_BYTES)
        return clean_archive(archive, place, exclude) if archive else b""
    except (FileNotFoundError, ValueError) as error:
        message = f"the artifact {source} cannot be taken out of the box: {error}"
        raise VerifierError(message) from error


async def take_service_artifact(box: Box, service: str, source: str, exclude: Sequence[str] = ()) -> bytes:
    """Return a file or folder of a service as `take_artifact` does; relative paths begin at its root.

    Raises:
        VerifierError: It is too large, or is none that could be carried.
    """
    place = PurePosixPath("/") / source
    try:
        archive = await box.services.read_from_service(service, place, limit_bytes=MOST_BYTES)
        return clean_archive(with_full_names(archive, place), place, exclude) if archive else b""
    except ValueError as error:
        message = f"the artifact {source} cannot be taken out of the service {service}: {error}"
        raise VerifierError(message) from error
