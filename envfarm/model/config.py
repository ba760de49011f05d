"""The architecture's sizes and switches, under the names that the checkpoint's config.json has. PURE.

Only what changes the maths is here; `config_json` reads and writes the file and refuses what we would compute wrongly.
"""

from dataclasses import dataclass
from enum import StrEnum

from envfarm.errors import CheckpointError


class LayerKind(StrEnum):
    """How far a layer sees."""

    GLOBAL = "global"
    WINDOW = "window"


@dataclass(frozen=True, kw_only=True)
class AttentionShape:
    """What attention looks like in all layers of one kind.

    Attributes:
        heads: Query heads, H.
        kv_heads: Key-value heads, G; divides `heads`.
        head_dim: Size of a query and of a key, C.
        v_head_dim: Size of a value, U.
        rope_theta: Base of the rotary embedding.
        has_sink: Whether each head has a learned logit in the softmax's denominator.
        reach_tokens: How many tokens before itself a token sees; None for all.
    """

    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    rope_theta: float
    has_sink: bool
    reach_tokens: int | None


@dataclass(frozen=True, kw_only=True)
class MiMoConfig:
    """One model of the family; fields have config.json's names and meaning.

    Attributes:
        hybrid_layer_pattern: For each layer 0 for global, 1 for window.
        moe_layer_freq: For each layer 0 for a dense feed-forward, 1 for experts.
        sliding_window: Tokens of a window; see `sliding_window_includes_self`.
        sliding_window_includes_self: False: that many tokens before a token, and itself (SGLang, transformers). True:
            itself is one of them (vLLM, the original code).
        partial_rotary_factor: Rotary embedding turns the first int(head_dim * factor) numbers of a head.
        num_nextn_predict_layers: MTP blocks. The real config.json does not say it; its weights have three.

    Raises:
        CheckpointError: Fields contradict one another; the message names them.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    moe_intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    v_head_dim: int
    swa_num_attention_heads: int
    swa_num_key_value_heads: int
    swa_head_dim: int
    swa_v_head_dim: int
    hybrid_layer_pattern: tuple[int, ...]
    moe_layer_freq: tuple[int, ...]
    n_routed_experts: int
    num_experts_per_tok: int
    sliding_window: int = 128
    sliding_window_includes_self: bool = False
    add_swa_attention_sink_bias: bool = True
    add_full_attention_sink_bias: bool = False
    attention_value_scale: float = 0.707
    partial_rotary_factor: float = 0.334
    rope_theta: float = 5_000_000.0
    swa_rope_theta: float = 10_000.0
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 1.0
    layernorm_epsilon: float = 1e-5
    max_position_embeddings: int = 262_144
    num_nextn_predict_layers: int = 3
    initializer_range: float = 0.02
    eos_token_id: int = 151_645
    pad_token_id: int = 151_643

    def __post_init__(self) -> None:
        """Refuse sizes that contradict one another."""
        for complaint in _complaints(self):
            message = f"config.json: {complaint}"
            raise CheckpointError(message)

    @property
    def num_hidden_layers(self) -> int:
        """Layers of the main model, MTP blocks not counted."""
        return len(self.hybrid_layer_pattern)

    def kind_of(self, layer: int) -> LayerKind:
        """Return how far a layer of the main model sees."""
        return LayerKind.WINDOW if self.hybrid_layer_pattern[layer] else LayerKind.GLOBAL

    def has_experts(self, layer: int) -> bool:
        """Return whether a layer of the main model routes its tokens to experts."""
        return bool(self.moe_layer_freq[layer])

    def count_layers(self, kind: LayerKind) -> int:
        """Return how many layers of the main model are of a kind."""
        return sum(self.kind_of(layer) is kind for layer in range(self.num_hidden_layers))

    @property
    def moe_layers(self) -> int:
        """How many layers have experts."""
        return sum(map(bool, self.moe_layer_freq))

    def attention(self, kind: LayerKind) -> AttentionShape:
        """Return the attention of all layers of a kind; MTP blocks have the window's."""
        if kind is LayerKind.GLOBAL:
            return AttentionShape(
                heads=self.num_attention_heads,
                kv_heads=self.num_key_value_heads,
                head_dim=self.head_dim,
                v_head_dim=self.v_head_dim,
                rope_theta=self.rope_theta,
                has_sink=self.add_full_attention_sink_bias,
                reach_tokens=None,
            )
        return AttentionShape(
            heads=self.swa_num_attention_heads,
            kv_heads=self.swa_num_key_value_heads,
            head_dim=self.swa_head_dim,
            v_head_dim=self.swa_v_head_dim,
            rope_theta=self.swa_rope_theta,
            has_sink=self.add_swa_attention_sink_bias,
            reach_tokens=self.sliding_window - self.sliding_window_includes_self,
        )

    def rotary_dim(self, kind: LayerKind) -> int:
        """Return how many numbers of a head the rotary embedding turns."""
        return int(self.attention(kind).head_dim * self.partial_rotary_factor)


_COUNTS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "v_head_dim",
    "swa_num_attention_heads",
    "swa_num_key_value_heads",
    "swa_head_dim",
    "swa_v_head_dim",
    "sliding_window",
    "max_position_embeddings",
    "num_hidden_layers",
)


def _complaints(config: MiMoConfig) -> list[str]:
    """Return what is wrong, worst first."""
    found = [f"{name} has to be at least 1" for name in _COUNTS if getattr(config, name) < 1]
    if not 0 < config.partial_rotary_factor <= 1:
        found.append("partial_rotary_factor has to be above 0 and at most 1")
    if found:
        return found
    layers = config.num_hidden_layers
    if len(config.moe_layer_freq) != layers:
        found.append(f"moe_layer_freq has {len(config.moe_layer_freq)} entries, hybrid_layer_pattern has {layers}")
    patterns = {"hybrid_layer_pattern": config.hybrid_layer_pattern, "moe_layer_freq": config.moe_layer_freq}
    found += [f"{name} may hold 0 and 1 only" for name, pattern in patterns.items() if not set(pattern) <= {0, 1}]
    if config.moe_layers and not (
        0 < config.num_experts_per_tok <= config.n_routed_experts and config.moe_intermediate_size > 0
    ):
        found.append("num_experts_per_tok has to be from 1 to n_routed_experts, and moe_intermediate_size at least 1")
    if config.num_nextn_predict_layers < 0:
        found.append("num_nextn_predict_layers is negative")
    for kind in LayerKind:
        shape, rotary = config.attention(kind), config.rotary_dim(kind)
        if shape.heads % shape.kv_heads:
            found.append(f"{kind} layers: {shape.heads} query heads cannot share {shape.kv_heads} key-value heads")
        if rotary % 2 or not 0 < rotary <= shape.head_dim:
            found.append(f"{kind} layers: partial_rotary_factor turns {rotary} of {shape.head_dim} numbers of a head")
    return found
