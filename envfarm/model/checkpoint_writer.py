"""Writes a model as the real checkpoint is stored: config.json, shards of safetensors, an index.

Tensors are written one by one. The folder appears by one rename when everything is in it; a failed or interrupted
write leaves nothing under its name.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from envfarm.errors import CheckpointError, OutputFolderError
from envfarm.model.checkpoint_files import CONFIG_FILE, INDEX_FILE, SINGLE_FILE
from envfarm.model.config import MiMoConfig
from envfarm.model.config_json import render_config
from envfarm.model.fp8 import quantise
from envfarm.model.mimo import MiMo
from envfarm.model.parameter_table import SCALE_SUFFIX, Parameter, Storage, parameters
from envfarm.model.scale_tiles import scale_shape
from envfarm.model.tensor_header import ITEM_BYTES, render_header

SHARD_BYTES = 5_000_000_000
"""Where the next shard begins, as most checkpoints have it."""
_DTYPES = {Storage.BF16: ("BF16", torch.bfloat16), Storage.F32: ("F32", torch.float32)}
_ORDER = (Storage.FP8, Storage.BF16, Storage.F32)


@dataclass(frozen=True)
class _Planned:
    """One weight and what is written for it: (name, type, shape), the scales behind the numbers they belong to."""

    parameter: Parameter
    storage: Storage
    entries: tuple[tuple[str, str, tuple[int, ...]], ...]

    @property
    def size_bytes(self) -> int:
        return sum(prod(shape) * ITEM_BYTES[dtype] for _, dtype, shape in self.entries)


def write_checkpoint(
    model: MiMo, folder: Path, *, smallest: Storage = Storage.FP8, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write the model; afterwards `load_model` and any loader of the real checkpoint can read it.

    Args:
        model: On any device.
        folder: Must not exist, or be an empty folder.
        smallest: FP8 stores each tensor as the real checkpoint does. BF16 and F32 store in that type whatever would be
            smaller: with F32 nothing is lost.
        shard_bytes: A shard ends before it would be larger, unless one tensor alone is.

    Raises:
        OutputFolderError: Something lies at `folder` already, or it cannot be written.
        CheckpointError: A weight is not finite.
    """
    unfinished = folder.with_name(folder.name + ".unfinished")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            message = f"{folder}: something lies there already: name a folder that does not exist"
            raise OutputFolderError(message)
        unfinished.mkdir(parents=True)
        try:
            _write_all(model, unfinished, smallest, shard_bytes)
            unfinished.replace(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        message = f"{folder}: cannot be written: {error.strerror}: {error.filename}"
        raise OutputFolderError(message) from error


def _write_all(model: MiMo, folder: Path, smallest: Storage, shard_bytes: int) -> None:
    weights = model.state_dict()
    shards = _shards([_plan(parameter, smallest) for parameter in parameters(model.config)], shard_bytes)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = SINGLE_FILE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        entries = [entry for planned in shard for entry in planned.entries]
        with (folder / file).open("wb") as stream:
            stream.write(render_header(entries))
            for planned in shard:
                _write_weight(stream, planned, weights[planned.parameter.name])
        weight_map |= {name: file for name, _, _ in entries}
    if len(shards) > 1:
        total = sum(planned.size_bytes for shard in shards for planned in shard)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    config: MiMoConfig = model.config
    (folder / CONFIG_FILE).write_text(render_config(config, fp8=smallest is Storage.FP8), encoding="utf-8")


def _plan(parameter: Parameter, smallest: Storage) -> _Planned:
    storage = max(parameter.storage, smallest, key=_ORDER.index)
    if storage is not Storage.FP8:
        return _Planned(parameter, storage, ((parameter.name, _DTYPES[storage][0], parameter.shape),))
    numbers = parameter.name, "F8_E4M3", parameter.shape
    scales = parameter.name + SCALE_SUFFIX, "F32", scale_shape(parameter.shape)
    return _Planned(parameter, storage, (numbers, scales))


def _shards(plan: Sequence[_Planned], shard_bytes: int) -> list[list[_Planned]]:
    shards: list[list[_Planned]] = [[]]
    filled = 0
    for planned in plan:
        if shards[-1] and filled + planned.size_bytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(planned)
        filled += planned.size_bytes
    return shards


def _write_weight(stream: BinaryIO, planned: _Planned, weight: Tensor) -> None:
    stored = _stored(planned, weight.detach().cpu())
    stream.writelines(part.contiguous().view(torch.uint8).numpy().data for part in stored)


def _stored(planned: _Planned, weight: Tensor) -> Iterator[Tensor]:
    if not bool(weight.isfinite().all()):
        message = f"{planned.parameter.name}: it holds numbers that are not finite"
        raise CheckpointError(message)
    if planned.storage is Storage.FP8:
        yield from quantise(weight)
    else:
        yield weight.to(_DTYPES[planned.storage][1])
