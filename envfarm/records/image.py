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


class ImageLayer(Part, frozen=True, kw_only=True):
    """One layer of a built image."""

    name: str
    """``base``, ``interpreter``, ``environment`` or ``task``."""
    diff_id: str
    """``sha256:`` and the digest of its bytes."""
    size_bytes: int = 0
    """0 for layers of the base."""


class BuiltImage(Record, frozen=True, kw_only=True, tag="envfarm.built_image/1"):
    """A task's image as a container engine has it."""

    task_id: str
    task_digest: str
    """Digest of the task's package."""
    image_id: str
    """``sha256:`` and the digest of its configuration, which names its layers: equal ids mean equal content."""
    reference: str
    """What a container engine knows it by."""
    base: str
    """Reference of the base that it was made on."""
    layers: tuple[ImageLayer, ...]
    variables: dict[str, str] = {}


class ImageCertificate(Record, frozen=True, kw_only=True, tag="envfarm.image_certificate/1"):
    """What the leak audit of an image looked at, in every layer, and what it found."""

    task_id: str
    task_digest: str
    image_id: str
    layers: tuple[str, ...]
    """Digests of all its layers, first to last."""
    checks: dict[str, str]
    """By check: ``clean``, or what was found and in which layer."""
    sha256: str
    """Over all of the above."""
