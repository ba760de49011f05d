"""A checkpoint's folder: its configuration, and in which file and where each tensor lies. Reads headers only."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from envfarm.errors import CheckpointError
from envfarm.model.config import MiMoConfig
from envfarm.model.config_json import parse_config
from envfarm.model.tensor_header import LENGTH_BYTES, TensorPlace, header_length, parse_header

CONFIG_FILE = "config.json"
INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
_NAMED = 3
"""How many things a message names before it only counts."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint, and the file that it lies in."""

    name: str
    path: Path
    place: TensorPlace


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint whose headers have been read; the weights are still on disk.

    Attributes:
        folder: Where it lies.
        config: What its config.json says.
        tensors: Every stored tensor by name, scales included; empty where the folder holds a config.json only.
    """

    folder: Path
    config: MiMoConfig
    tensors: Mapping[str, StoredTensor]


def open_checkpoint(path: Path) -> CheckpointFiles:
    """Return what lies in a checkpoint's folder, or beside a config.json.

    Raises:
        CheckpointError: There is no config.json, or the index or a shard is missing, damaged, or they disagree.
    """
    folder = path.parent if path.name == CONFIG_FILE else path
    return CheckpointFiles(folder, parse_config(_read(folder / CONFIG_FILE)), _find_tensors(folder))


def listing(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _find_tensors(folder: Path) -> dict[str, StoredTensor]:
    if not (folder / INDEX_FILE).is_file():
        return _without_index(folder)
    weight_map = _read_index(folder / INDEX_FILE)
    files = sorted(set(weight_map.values()))
    missing = [file for file in files if not _is_file(folder / file)]
    if missing:
        message = f"{INDEX_FILE}: of {len(files)} shards {len(missing)} are missing: {listing(missing)}"
        raise CheckpointError(message)
    found: dict[str, StoredTensor] = {}
    for file in files:
        found |= {name: tensor for name, tensor in _read_header(folder / file).items() if weight_map.get(name) == file}
    lost = [name for name in weight_map if name not in found]
    if lost:
        message = f"{INDEX_FILE}: these tensors are not in the shards that it names: {listing(lost)}"
        raise CheckpointError(message)
    return {name: found[name] for name in weight_map}


def _without_index(folder: Path) -> dict[str, StoredTensor]:
    if (folder / SINGLE_FILE).is_file():
        return _read_header(folder / SINGLE_FILE)
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    if shards:
        message = f"{folder / INDEX_FILE}: it is missing, and says which weights lie in {listing(shards)}"
        raise CheckpointError(message)
    return {}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, for instance
        return False


def _read_index(path: Path) -> dict[str, str]:
    """Return which file each tensor lies in; files lie in the folder itself."""
    try:
        weight_map = json.loads(_read(path))["weight_map"]
        right = all(isinstance(file, str) and PurePosixPath(file).name == file for file in weight_map.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"{path.name}: it has to be a JSON object with a weight_map"
        raise CheckpointError(message) from error
    if not right:
        message = f"{path.name}: a weight_map gives names of files in the same folder"
        raise CheckpointError(message)
    return {str(name): str(file) for name, file in weight_map.items()}


def _read_header(path: Path) -> dict[str, StoredTensor]:
    try:
        file_bytes = path.stat().st_size
        with path.open("rb") as stream:
            length = header_length(path.name, stream.read(LENGTH_BYTES), file_bytes)
            places = parse_header(path.name, stream.read(length), file_bytes)
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
        raise CheckpointError(message) from error
    return {name: StoredTensor(name, path, place) for name, place in places.items()}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}; a checkpoint's folder holds {CONFIG_FILE} and weights"
        raise CheckpointError(message) from error
