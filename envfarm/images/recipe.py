"""What an image is made of, as an engine reads it: layers, configuration, names. PURE.

An engine names an image by the digest of its configuration, which names the layers by the digests of their bytes. So
the id follows from the content alone: the same on any day, in any folder, on any machine.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envfarm.images.layer_archive import LAYER_TIME

REPOSITORY = "envfarm-task"
IMAGE_LABEL = "envfarm.image"
USER = 1000
"""Who works in a task's image, and owns its workspace."""
_CREATED = "2024-01-01T00:00:00Z"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class RecipeLayer:
    """One layer.

    Attributes:
        name: What it is: ``base``, ``interpreter``, ``environment`` or ``task``.
        diff_id: Digest of its bytes.
        size_bytes: Their number; 0 where only the engine knows.
    """

    name: str
    diff_id: str
    size_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An image before any engine has it.

    Attributes:
        layers: First to last.
        variables: Of every command.
        workdir: Where commands start.
        machine: As the kernel names it, such as ``x86_64``.
    """

    layers: tuple[RecipeLayer, ...]
    variables: Mapping[str, str]
    workdir: str
    machine: str

    @property
    def config(self) -> bytes:
        """The configuration, as JSON."""
        document = {
            "architecture": _ARCHITECTURES.get(self.machine, self.machine),
            "config": {
                "Cmd": ["/bin/sh"],
                "Env": [f"{name}={value}" for name, value in sorted(self.variables.items())],
                "Labels": {IMAGE_LABEL: "1"},
                "User": f"{USER}:{USER}",
                "WorkingDir": self.workdir,
            },
            "created": _CREATED,
            "history": [{"created": _CREATED, "created_by": f"envfarm {layer.name}"} for layer in self.layers],
            "os": "linux",
            "rootfs": {"diff_ids": [layer.diff_id for layer in self.layers], "type": "layers"},
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @property
    def image_id(self) -> str:
        """``sha256:`` and the digest of the configuration."""
        return f"sha256:{hashlib.sha256(self.config).hexdigest()}"

    @property
    def tag(self) -> str:
        """The name that keeps the image in an engine."""
        return f"{REPOSITORY}:{self.image_id.removeprefix('sha256:')[:32]}"


def layer_path(diff_id: str) -> str:
    """Return where a layer lies in an archive that an engine loads."""
    return f"{diff_id.removeprefix('sha256:')}/layer.tar"


def archive_head(recipe: Recipe) -> bytes:
    """Return the start of an archive for an engine: manifest and configuration; layers and `ARCHIVE_END` follow."""
    config_name = f"{recipe.image_id.removeprefix('sha256:')}.json"
    manifest = [
        {
            "Config": config_name,
            "RepoTags": [recipe.tag],
            "Layers": [layer_path(layer.diff_id) for layer in recipe.layers],
        }
    ]
    head = io.BytesIO()
    for name, content in ((_MANIFEST, json.dumps(manifest).encode()), (config_name, recipe.config)):
        head.write(member_head(name, len(content)) + content + padding(len(content)))
    return head.getvalue()


def member_head(name: str, size_bytes: int) -> bytes:
    """Return the header of a file of an archive."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size_bytes, LAYER_TIME, 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


def padding(size_bytes: int) -> bytes:
    """Return what follows a file's content in an archive."""
    return b"\0" * (-size_bytes % tarfile.BLOCKSIZE)


ARCHIVE_END = b"\0" * tarfile.RECORDSIZE


def count_known_layers(diff_ids: Sequence[str], held: Sequence[Sequence[str]]) -> int:
    """Return how many of the first layers an engine has in this order, given the layers of images that it holds."""
    most = 0
    for other in held:
        same = 0
        for mine, theirs in zip(diff_ids, other, strict=False):
            if mine != theirs:
                break
            same += 1
        most = max(most, same)
    return most
