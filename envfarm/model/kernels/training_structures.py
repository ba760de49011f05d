"""The structures of `source/training.h`, field by field. Pointers are addresses, as in `structures.py`."""

import ctypes
from typing import Any, ClassVar

_Fields = list[tuple[str, Any]]
_POINTER, _WHOLE, _SMALL, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_float


class Norm(ctypes.Structure):
    """A normalisation of what is added to the stream."""

    _fields_: ClassVar[_Fields] = [
        *((name, _POINTER) for name in ("stream", "added", "weight", "sum", "normal", "wide", "factors")),
        ("rows", _WHOLE),
        ("size", _WHOLE),
        ("epsilon", _NUMBER),
        ("halves", _SMALL),
    ]


class NormGradient(ctypes.Structure):
    """Its gradient."""

    _fields_: ClassVar[_Fields] = [
        *((name, _POINTER) for name in ("sum", "weight", "factors", "of_sum", "of_normal", "of_wide")),
        *((name, _POINTER) for name in ("of_stream", "of_added", "of_weight")),
        ("rows", _WHOLE),
        ("size", _WHOLE),
        ("halves", _SMALL),
    ]


class Gate(ctypes.Structure):
    """A gate, or its gradient."""

    _fields_: ClassVar[_Fields] = [
        *((name, _POINTER) for name in ("gate_up", "inner", "of_inner", "of_gate_up")),
        ("size", _WHOLE),
        ("halves", _SMALL),
    ]


class Spread(ctypes.Structure):
    """Rows on their way to experts."""

    _fields_: ClassVar[_Fields] = [
        *((name, _POINTER) for name in ("rows", "sources", "factors", "placed", "others", "products")),
        ("chosen", _WHOLE),
        ("size", _WHOLE),
        ("halves", _SMALL),
    ]


class Collect(ctypes.Structure):
    """Rows on their way back."""

    _fields_: ClassVar[_Fields] = [
        *((name, _POINTER) for name in ("placed", "places", "factors", "rows")),
        ("chosen", _WHOLE),
        ("size", _WHOLE),
        ("halves", _SMALL),
    ]


class Surprise(ctypes.Structure):
    """Losses of tokens."""

    _fields_: ClassVar[_Fields] = [
        *((name, _POINTER) for name in ("logits", "targets", "distances", "totals")),
        ("vocabulary", _WHOLE),
        ("share", _NUMBER),
        ("halves", _SMALL),
        ("wants_gradient", _SMALL),
    ]


class Lesson(ctypes.Structure):
    """Attention of whole rows, or its gradient."""

    _fields_: ClassVar[_Fields] = [
        *((name, _POINTER) for name in ("projected", "firsts", "cosines", "sines", "sinks", "out")),
        *((name, _POINTER) for name in ("exact", "largest", "shares", "of_out", "of_projected", "of_sinks")),
        *((name, _WHOLE) for name in ("tokens", "heads", "kv_heads", "head_dim", "v_head_dim", "rotary_dim")),
        ("value_scale", _NUMBER),
        ("halves", _SMALL),
    ]


class Team(ctypes.Structure):
    """A call in parts."""

    _fields_: ClassVar[_Fields] = [
        *((name, _POINTER) for name in ("call", "structure", "bounds", "memories", "thread_number", "thread_count")),
        ("parts", _WHOLE),
    ]


ALL = (Norm, NormGradient, Gate, Spread, Collect, Surprise, Lesson, Team)
"""In the order of `training.h`."""
