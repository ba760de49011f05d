"""What a checkpoint holds beside what its configuration asks for; reads headers only, and needs no torch."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from envfarm.errors import CheckpointError
from envfarm.model.checkpoint_files import CheckpointFiles, StoredTensor, listing, open_checkpoint
from envfarm.model.config import MiMoConfig
from envfarm.model.kv_bytes import KeyValueBytes, key_value_bytes
from envfarm.model.parameter_table import SCALE_SUFFIX, ParameterCounts, count_parameters, parameters
from envfarm.model.scale_tiles import tile_rows

_LENGTHS = (4_096, 32_768, 131_072, 262_144)


@dataclass(frozen=True, kw_only=True)
class Misfits:
    """Tensors by name: asked for and not stored, stored and not asked for, and of a shape that does not fit."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self.missing or self.unexpected or self.misshapen)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What `envfarm model inspect` tells.

    Attributes:
        counts: Numbers in the weights that the configuration asks for.
        key_values: What a request's cache takes at several lengths, in bf16.
        stored_bytes: Bytes of the stored tensors, by type.
        misfits: None where the folder holds no weights.
    """

    config: MiMoConfig
    counts: ParameterCounts
    key_values: tuple[KeyValueBytes, ...]
    stored_bytes: Mapping[str, int]
    misfits: Misfits | None


def inspect_checkpoint(path: Path) -> Inspection:
    """Return what a checkpoint's folder, or a config.json alone, holds.

    Raises:
        CheckpointError: It cannot be read; see `open_checkpoint`.
    """
    files = open_checkpoint(path)
    stored: Counter[str] = Counter()
    for tensor in files.tensors.values():
        stored[tensor.place.dtype] += tensor.place.size_bytes
    lengths = sorted({length for length in _LENGTHS if length <= files.config.max_position_embeddings})
    return Inspection(
        config=files.config,
        counts=count_parameters(files.config),
        key_values=tuple(
            key_value_bytes(files.config, length) for length in lengths or [files.config.max_position_embeddings]
        ),
        stored_bytes=dict(stored),
        misfits=find_misfits(files) if files.tensors else None,
    )


def find_misfits(files: CheckpointFiles) -> Misfits:
    """Compare the stored tensors with those that the configuration asks for; an FP8 weight asks for its scales too."""
    missing: list[str] = []
    misshapen: list[str] = []
    asked: set[str] = set()
    for parameter in parameters(files.config):
        tensor = files.tensors.get(parameter.name)
        asked.add(parameter.name)
        if tensor is None:
            missing.append(parameter.name)
        elif tensor.place.shape != parameter.shape:
            wanted, found = list(parameter.shape), list(tensor.place.shape)
            misshapen.append(f"{parameter.name} (asked {wanted}, stored {found})")
        elif tensor.place.dtype == "F8_E4M3":
            asked.add(parameter.name + SCALE_SUFFIX)
            scale = files.tensors.get(parameter.name + SCALE_SUFFIX)
            if scale is None:
                missing.append(parameter.name + SCALE_SUFFIX)
            else:
                misshapen += _scale_complaints(tensor, scale)
    unexpected = tuple(name for name in files.tensors if name not in asked)
    return Misfits(missing=tuple(missing), unexpected=unexpected, misshapen=tuple(misshapen))


def refuse_misfits(misfits: Misfits) -> None:
    """Raise if any tensor is missing, unexpected or misshapen.

    Raises:
        CheckpointError: The first names of each sort, and how many more there are.
    """
    sorts = ("missing", misfits.missing), ("unexpected", misfits.unexpected), ("misshapen", misfits.misshapen)
    found = "; ".join(f"{sort}: {listing(list(names))}" for sort, names in sorts if names)
    if found:
        message = f"the weights do not fit config.json: {found}"
        raise CheckpointError(message)


def _scale_complaints(weight: StoredTensor, scale: StoredTensor) -> list[str]:
    try:
        tile_rows(weight.name, weight.place.shape, scale.place.shape)
    except CheckpointError as error:
        return [str(error)]
    return []
