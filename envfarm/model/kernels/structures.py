"""The structures of `source/model.h`, field by field. Pointers are addresses: who makes one keeps its memory alive."""

import ctypes
from typing import Any, ClassVar

_Fields = list[tuple[str, Any]]
_POINTER, _WHOLE, _SMALL, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_float


class Matrix(ctypes.Structure):
    """A packed weight."""

    _fields_: ClassVar[_Fields] = [
        ("panels", _POINTER),
        ("factors", _POINTER),
        ("inputs", _WHOLE),
        ("outputs", _WHOLE),
    ]


class Attention(ctypes.Structure):
    """An attention layer."""

    _fields_: ClassVar[_Fields] = [
        ("qkv", Matrix),
        ("out", Matrix),
        ("sinks", _POINTER),
        ("heads", _WHOLE),
        ("kv_heads", _WHOLE),
        ("head_dim", _WHOLE),
        ("v_head_dim", _WHOLE),
        ("rotary_dim", _WHOLE),
        ("reach", _WHOLE),
        ("value_scale", _NUMBER),
    ]


class FeedForward(ctypes.Structure):
    """A dense feed-forward, or an expert."""

    _fields_: ClassVar[_Fields] = [("gate_up", Matrix), ("down", Matrix)]


class Layer(ctypes.Structure):
    """A layer of the main model, or of an MTP block."""

    _fields_: ClassVar[_Fields] = [
        ("attention_norm", _POINTER),
        ("feed_norm", _POINTER),
        ("attention", Attention),
        ("feeds", _POINTER),
        ("experts", _WHOLE),
        ("experts_chosen", _WHOLE),
        ("router", Matrix),
        ("correction", _POINTER),
        ("routed_scaling", _NUMBER),
        ("normalised", _SMALL),
    ]


class Block(ctypes.Structure):
    """An MTP block."""

    _fields_: ClassVar[_Fields] = [
        ("embedding_norm", _POINTER),
        ("hidden_norm", _POINTER),
        ("final_norm", _POINTER),
        ("joined", Matrix),
        ("layer", Layer),
    ]


class Model(ctypes.Structure):
    """All weights."""

    _fields_: ClassVar[_Fields] = [
        ("hidden", _WHOLE),
        ("vocabulary", _WHOLE),
        ("layer_count", _WHOLE),
        ("embedding", _POINTER),
        ("final_norm", _POINTER),
        ("layers", _POINTER),
        ("blocks", _POINTER),
        ("head", Matrix),
        ("epsilon", _NUMBER),
    ]


class Memory(ctypes.Structure):
    """Keys and values of a layer."""

    _fields_: ClassVar[_Fields] = [
        ("keys", _POINTER),
        ("values", _POINTER),
        ("positions", _POINTER),
        ("slots", _WHOLE),
        ("unit_keys", _WHOLE),
        ("group_keys", _WHOLE),
        ("unit_values", _WHOLE),
        ("group_values", _WHOLE),
        ("cosines", _POINTER),
        ("sines", _POINTER),
    ]


class Segment(ctypes.Structure):
    """Tokens of one request that follow one another."""

    _fields_: ClassVar[_Fields] = [("row", _SMALL), ("start", _SMALL), ("count", _SMALL), ("blocks", _SMALL)]


class Step(ctypes.Structure):
    """The tokens of a step."""

    _fields_: ClassVar[_Fields] = [
        ("tokens", _WHOLE),
        ("segment_count", _WHOLE),
        ("segments", _POINTER),
        ("tables", _POINTER),
        ("ids", _POINTER),
        ("memories", _POINTER),
        ("given", _POINTER),
        ("hidden", _POINTER),
        ("chosen", _POINTER),
        ("most_chosen", _WHOLE),
        ("scratch", _POINTER),
    ]


class Head(ctypes.Structure):
    """Rows that want logits."""

    _fields_: ClassVar[_Fields] = [
        ("count", _WHOLE),
        ("hidden", _POINTER),
        ("logits", _POINTER),
        ("likeliest", _POINTER),
        ("total_chances", _POINTER),
        ("finite", _POINTER),
    ]


ALL = (Matrix, Attention, FeedForward, Layer, Block, Model, Memory, Segment, Step, Head)
"""In the order of `model.h`."""
