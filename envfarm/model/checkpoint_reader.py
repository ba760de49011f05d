"""Reads weights tensor by tensor: memory stays bounded by the model itself and the largest stored tensor."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from envfarm.errors import CheckpointError
from envfarm.model.checkpoint_files import CheckpointFiles, StoredTensor, open_checkpoint
from envfarm.model.fp8 import FP8, dequantise
from envfarm.model.inspection import find_misfits, refuse_misfits
from envfarm.model.mimo import MiMo
from envfarm.model.parameter_table import SCALE_SUFFIX, parameters

_DTYPES = {"F8_E4M3": FP8, "BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


def load_model(folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> MiMo:
    """Return a checkpoint's model, ready for inference; routers are in float32, everything else in `dtype`.

    Raises:
        CheckpointError: The folder cannot be read, its weights do not fit its config.json, or are not finite.
    """
    files = open_checkpoint(folder)
    if not files.tensors:
        message = f"{folder}: there are no weights beside config.json"
        raise CheckpointError(message)
    refuse_misfits(find_misfits(files))
    model = MiMo(files.config, dtype=dtype, device="meta").to_empty(device=device)
    places = model.state_dict()
    for name, weight in iterate_weights(files):
        if not bool(weight.isfinite().all()):
            message = f"{files.tensors[name].path.name}: {name} holds numbers that are not finite"
            raise CheckpointError(message)
        places[name].copy_(weight)
    return model.eval()


def iterate_weights(files: CheckpointFiles) -> Iterator[tuple[str, Tensor]]:
    """Yield every weight that the configuration asks for; FP8 comes dequantised, in float32.

    Raises:
        CheckpointError: A file ends early, a tensor is not there, or scales do not fit.
    """
    for parameter in parameters(files.config):
        yield parameter.name, read_weight(files, parameter.name)


def read_weight(files: CheckpointFiles, name: str) -> Tensor:
    """Return one weight: as it is stored, or dequantised to float32.

    Raises:
        CheckpointError: A file ends early, the tensor is not there, or its scales do not fit.
    """
    weight = _read(_find(files, name))
    if weight.dtype is not FP8:
        return weight
    return dequantise(name, weight, _read(_find(files, name + SCALE_SUFFIX)), torch.float32)


def _find(files: CheckpointFiles, name: str) -> StoredTensor:
    if name not in files.tensors:
        message = f"{files.folder}: there is no tensor {name}"
        raise CheckpointError(message)
    return files.tensors[name]


def _read(tensor: StoredTensor) -> Tensor:
    """Return the stored numbers; they are read, not mapped, so that nothing but this tensor is in memory."""
    content = bytearray(tensor.place.size_bytes)
    try:
        with tensor.path.open("rb") as stream:
            stream.seek(tensor.place.offset)
            count = stream.readinto(content)
    except OSError as error:
        message = f"{tensor.path}: cannot be read: {error.strerror}"
        raise CheckpointError(message) from error
    if count != len(content):
        message = f"{tensor.path.name}: it ends inside {tensor.name}"
        raise CheckpointError(message)
    dtype = _DTYPES[tensor.place.dtype]
    if not content:
        return torch.empty(tensor.place.shape, dtype=dtype)
    return torch.frombuffer(content, dtype=torch.uint8).view(dtype).view(tensor.place.shape)
