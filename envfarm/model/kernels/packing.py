"""Packs a model's weights for the kernels: a copy, in the order in which they are read.

`source/model.h` describes panels. The copy lies in one piece of memory, in large pages where the system gives them: a
step reads all of it, and small pages would cost a look-up for each 4 KB.
"""

import ctypes
import mmap
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from envfarm.model.attention import Attention
from envfarm.model.config import LayerKind
from envfarm.model.decoder_layer import DecoderLayer
from envfarm.model.feed_forward import FeedForward
from envfarm.model.kernels import structures
from envfarm.model.kernels.halving import halve
from envfarm.model.mimo import MiMo
from envfarm.model.mtp import MTPBlock

LANES, PANEL = 16, 64
_MOST_BYTES = 1 << 30
"""Above this torch's products are as good, and a second copy is too much: a guess."""
_MOST_EXPERTS = 256


def can_pack(model: MiMo) -> bool:
    """Return whether the kernels can run a model: float32 on a CPU, of a small size."""
    weights = [*model.parameters(), *model.buffers()]
    is_plain = all(weight.device.type == "cpu" and weight.dtype is torch.float32 for weight in weights)
    size = sum(weight.numel() * weight.element_size() for weight in weights)
    return is_plain and size <= _MOST_BYTES and model.config.n_routed_experts <= _MOST_EXPERTS


class PackedModel:
    """A copy of a model's weights; what becomes of the model later changes nothing in it.

    Attributes:
        address: Of `struct model`.
    """

    def __init__(self, model: MiMo) -> None:
        """Pack a model that `can_pack` accepts."""
        self._config = config = model.config
        self._kept: list[Any] = []
        self._used = 0
        self._arena = _make_arena(sum(map(_packed_numbers, [*model.parameters(), *model.buffers()])))
        backbone = model.model
        layers = [
            self._layer(cast("DecoderLayer", one), config.kind_of(place)) for place, one in enumerate(backbone.layers)
        ]
        blocks = (
            [self._block(cast("MTPBlock", one)) for one in backbone.mtp.layers]
            if config.num_nextn_predict_layers
            else []
        )
        self.address = self._keep(
            structures.Model(
                hidden=config.hidden_size,
                vocabulary=config.vocab_size,
                layer_count=len(layers),
                embedding=self._copy(backbone.embed_tokens.weight),
                final_norm=self._copy(backbone.norm.weight),
                layers=self._keep((structures.Layer * len(layers))(*layers)),
                blocks=self._keep((structures.Block * len(blocks))(*blocks)),
                head=self._matrix(model.lm_head.weight),
                epsilon=config.layernorm_epsilon,
            )
        )

    def _layer(self, layer: DecoderLayer, kind: LayerKind) -> structures.Layer:
        packed = structures.Layer(
            attention_norm=self._copy(layer.input_layernorm.weight),
            feed_norm=self._copy(layer.post_attention_layernorm.weight),
            attention=self._attention(layer.self_attn, kind),
        )
        if isinstance(layer.mlp, FeedForward):
            packed.feeds = self._keep(self._feed(layer.mlp))
            return packed
        gate, experts = layer.mlp.gate, layer.mlp.experts
        pairs = zip(experts.gate_up_proj.unbind(), experts.down_proj.unbind(), strict=True)
        feeds = [structures.FeedForward(self._matrix(gate_up), self._matrix(down)) for gate_up, down in pairs]
        packed.feeds = self._keep((structures.FeedForward * len(feeds))(*feeds))
        packed.experts, packed.experts_chosen = len(feeds), gate.chosen
        packed.router, packed.correction = self._matrix(gate.weight), self._copy(gate.e_score_correction_bias)
        packed.routed_scaling, packed.normalised = gate.scaling, gate.is_normalised
        return packed

    def _block(self, block: MTPBlock) -> structures.Block:
        return structures.Block(
            embedding_norm=self._copy(block.enorm.weight),
            hidden_norm=self._copy(block.hnorm.weight),
            final_norm=self._copy(block.final_layernorm.weight),
            joined=self._matrix(block.eh_proj.weight),
            layer=structures.Layer(
                attention_norm=self._copy(block.input_layernorm.weight),
                feed_norm=self._copy(block.pre_mlp_layernorm.weight),
                attention=self._attention(block.self_attn, LayerKind.WINDOW),
                feeds=self._keep(self._feed(block.mlp)),
            ),
        )

    def _attention(self, attention: Attention, kind: LayerKind) -> structures.Attention:
        shape, sinks = attention.shape, attention.attention_sink_bias
        return structures.Attention(
            qkv=self._matrix(attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight),
            out=self._matrix(attention.o_proj.weight),
            sinks=None if sinks is None else self._copy(sinks),
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            v_head_dim=shape.v_head_dim,
            rotary_dim=self._config.rotary_dim(kind),
            reach=-1 if shape.reach_tokens is None else shape.reach_tokens,
            value_scale=attention.value_scale,
        )

    def _feed(self, feed: FeedForward) -> structures.FeedForward:
        return structures.FeedForward(
            self._matrix(feed.gate_proj.weight, feed.up_proj.weight), self._matrix(feed.down_proj.weight)
        )

    def _matrix(self, *weights_O_D: Tensor) -> structures.Matrix:
        """Pack weights that are read together, one below the other."""
        outputs, inputs = sum(weight.shape[0] for weight in weights_O_D), weights_O_D[0].shape[1]
        halves = [halve(weight.detach()) for weight in weights_O_D]
        found = [pair for pair in halves if pair is not None]
        if len(found) < len(halves):
            panels = _panels(torch.cat([weight.detach() for weight in weights_O_D]))
            return structures.Matrix(self._copy(panels), None, inputs, outputs)
        numbers, factors = (torch.cat(parts) for parts in zip(*found, strict=True))
        bits = _panels(numbers.view(torch.int16))
        place = self._copy(functional.pad(bits, (0, bits.numel() % 2)).view(torch.float32))
        return structures.Matrix(place, self._copy(_panels(factors)), inputs, outputs)

    def _copy(self, numbers: Tensor) -> int:
        """Copy numbers to where the next cache line begins; return their address."""
        place = self._arena[self._used : self._used + numbers.numel()]
        place.copy_(numbers.detach().reshape(-1))
        self._used += -(-numbers.numel() // LANES) * LANES
        return place.data_ptr()

    def _keep(self, structure: ctypes.Structure | ctypes.Array[Any]) -> int:
        """Keep a structure alive as long as this object; return its address."""
        self._kept.append(structure)
        return ctypes.addressof(structure)


def _panels(numbers_O_D: Tensor) -> Tensor:
    """Return numbers in the order of panels: in each of them all outputs of an input side by side."""
    padded_O_D = functional.pad(numbers_O_D, (0, 0, 0, -numbers_O_D.shape[0] % LANES))
    panels = [panel.t().reshape(-1) for panel in torch.split(padded_O_D, PANEL)]
    return torch.cat(panels)


def _packed_numbers(weight: Tensor) -> int:
    """Return how many numbers a weight can take at most: rows filled up, in each of the matrices it may hold."""
    if weight.dim() == 1:
        return -(-weight.numel() // LANES) * LANES
    rows, inputs = weight.shape[-2:]
    padded = -(-rows // LANES) * LANES
    return weight.numel() // (rows * inputs) * (padded * inputs + LANES)


def _make_arena(numbers: int) -> Tensor:
    memory = mmap.mmap(-1, max(numbers, 1) * 4)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32)
