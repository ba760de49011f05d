"""An image: what a sandbox is made from, on whichever provider."""

from enum import StrEnum

from envfarm.records.versioned import Part, Record


class FolderAccess(StrEnum):
    """What a sandbox may do with a folder of the host."""

    READ_ONLY = "read_only"
    COPY_ON_WRITE = "copy_on_write"
    """The sandbox writes to a private copy that ends with the lease; the host's folder never changes."""
    READ_WRITE = "read_write"
    """Writes reach the host's folder: only for building environments, never for grading."""


class Folder(Part, frozen=True, kw_only=True):
    """A folder or file of this machine that a sandbox sees at `target`."""

    source: str
    """Absolute path on this machine."""
    target: str
    """Absolute POSIX path in the sandbox."""
    access: FolderAccess = FolderAccess.READ_ONLY


class Image(Record, frozen=True, kw_only=True, tag="envfarm.image/1"):
    """What a sandbox is made from.

    A provider that works on this machine's folders reads `folders`; a container engine reads `reference`.
    """

    image_id: str
    """Digest of what is inside; equal ids mean equal content."""
    folders: tuple[Folder, ...] = ()
    reference: str | None = None
    """Image name or digest for a container engine, where there is one."""
    environment_variables: dict[str, str] = {}
