"""The header of a safetensors file: which tensor lies where. PURE.

Files come from strangers: every place is checked against the file's size before anybody reads it.
Covered: sizes, types, shapes, places, overlaps, holes, truncation. Not covered: what the numbers are.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from envfarm.errors import CheckpointError

LENGTH_BYTES = 8
"""A file starts with the header's length, unsigned, little-endian."""
LARGEST_HEADER_BYTES = 100_000_000
"""The format's own limit."""
ITEM_BYTES: Mapping[str, int] = {"F8_E4M3": 1, "BF16": 2, "F16": 2, "F32": 4}
"""The types that this architecture's weights are stored in."""
_METADATA = "__metadata__"
_LARGEST = 1 << 63
"""No axis and no file is as large."""


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies in its file.

    Attributes:
        dtype: Its type by the format's name, one of `ITEM_BYTES`.
        shape: Its axes.
        offset: Bytes from the start of the file.
        size_bytes: Its length.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


def header_length(file: str, start: bytes, file_bytes: int) -> int:
    """Return the header's length, given the first eight bytes of a file.

    Raises:
        CheckpointError: The file is too short for its header, or no safetensors file; names it.
    """
    length = int.from_bytes(start, "little")
    if len(start) < LENGTH_BYTES or length > min(LARGEST_HEADER_BYTES, file_bytes - LENGTH_BYTES):
        message = f"{file}: it is truncated, or no safetensors file: the header does not fit into {file_bytes} bytes"
        raise CheckpointError(message)
    return length


def parse_header(file: str, header: bytes, file_bytes: int) -> dict[str, TensorPlace]:
    """Return the places of all tensors, in the order of the header.

    Raises:
        CheckpointError: The header is damaged, or speaks of bytes that the file does not have; names file and tensor.
    """
    try:
        document = json.loads(header)
    except (ValueError, RecursionError) as error:
        message = f"{file}: its header is not JSON: {error}"
        raise CheckpointError(message) from error
    if not isinstance(document, dict):
        message = f"{file}: its header has to be a JSON object"
        raise CheckpointError(message)
    start = LENGTH_BYTES + len(header)
    places = {name: _place(file, name, entry, start) for name, entry in document.items() if name != _METADATA}
    _check_that_they_fill(file, places, start, file_bytes)
    return places


def render_header(entries: Sequence[tuple[str, str, tuple[int, ...]]]) -> bytes:
    """Return the start of a file, length included, for tensors (name, type, shape) that follow in this order."""
    document: dict[str, Any] = {_METADATA: {"format": "pt"}}
    offset = 0
    for name, dtype, shape in entries:
        end = offset + prod(shape) * ITEM_BYTES[dtype]
        document[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _place(file: str, name: str, entry: Any, start: int) -> TensorPlace:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = all(type(number) is int and 0 <= number < _LARGEST for number in (*shape, begin, end))
    except (KeyError, TypeError, ValueError) as error:
        message = f"{file}: the entry of {name} is malformed"
        raise CheckpointError(message) from error
    if not whole:
        message = f"{file}: the entry of {name} is malformed"
        raise CheckpointError(message)
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        message = f"{file}: {name} is stored as {str(dtype)[:20]!r}; we read {', '.join(ITEM_BYTES)}"
        raise CheckpointError(message)
    if end - begin != prod(shape) * ITEM_BYTES[dtype]:
        message = f"{file}: {name} has {end - begin} bytes, {dtype} of shape {shape} needs others"
        raise CheckpointError(message)
    return TensorPlace(dtype, tuple(shape), start + begin, end - begin)


def _check_that_they_fill(file: str, places: Mapping[str, TensorPlace], start: int, file_bytes: int) -> None:
    """Refuse holes, overlaps and files that end early: the format has none of them."""
    end = start
    for name, place in sorted(places.items(), key=lambda item: (item[1].offset, item[1].size_bytes)):
        if place.offset != end:
            message = f"{file}: {name} overlaps the tensor before it, or leaves a hole"
            raise CheckpointError(message)
        end += place.size_bytes
    if end != file_bytes:
        state = "truncated" if end > file_bytes else "longer than its tensors"
        message = f"{file}: it is {state}: {file_bytes} bytes, its header speaks of {end}"
        raise CheckpointError(message)
