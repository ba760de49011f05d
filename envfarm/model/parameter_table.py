"""Every tensor of a checkpoint: name, shape, how the real one stores it, and whether one token uses it. PURE.

The table is written down from the checkpoint's names, not from our modules: a test compares the two.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import prod

from envfarm.model.config import LayerKind, MiMoConfig

SCALE_SUFFIX = "_scale_inv"
"""`NAME.weight` in FP8 has its float32 scales beside it as `NAME.weight_scale_inv`."""
MTP_PREFIX = "model.mtp."


class Storage(StrEnum):
    """How the real checkpoint stores a tensor."""

    FP8 = "fp8"
    BF16 = "bf16"
    F32 = "f32"


@dataclass(frozen=True)
class Parameter:
    """One tensor of the model; `expert` is its expert's number, None where no routing decides."""

    name: str
    shape: tuple[int, ...]
    storage: Storage
    expert: int | None = None

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class ParameterCounts:
    """Numbers in the weights: `total` and `active` (what one token meets) of the main model, `mtp` beside it."""

    total: int
    active: int
    mtp: int


def parameters(config: MiMoConfig) -> Iterator[Parameter]:
    """Yield every tensor of the model, scales not counted, in the order of a forward pass."""
    hidden = config.hidden_size
    yield Parameter("model.embed_tokens.weight", (config.vocab_size, hidden), Storage.BF16)
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield Parameter(f"{prefix}{norm}.weight", (hidden,), Storage.BF16)
        yield from _attention(config, config.kind_of(layer), prefix)
        if config.has_experts(layer):
            yield from _experts(config, prefix)
        else:
            yield from _feed_forward(f"{prefix}mlp.", hidden, config.intermediate_size)
    yield Parameter("model.norm.weight", (hidden,), Storage.BF16)
    yield Parameter("lm_head.weight", (config.vocab_size, hidden), Storage.BF16)
    for block in range(config.num_nextn_predict_layers):
        yield from _mtp_block(config, f"{MTP_PREFIX}layers.{block}.")


def count_parameters(config: MiMoConfig) -> ParameterCounts:
    """Return the sizes of the model; the active ones are those that one token meets, embedding and head included."""
    total = active = mtp = 0
    for parameter in parameters(config):
        if parameter.name.startswith(MTP_PREFIX):
            mtp += parameter.size
            continue
        total += parameter.size
        is_active = parameter.expert is None or parameter.expert < config.num_experts_per_tok
        active += parameter.size if is_active else 0
    return ParameterCounts(total=total, active=active, mtp=mtp)


def _attention(config: MiMoConfig, kind: LayerKind, prefix: str) -> Iterable[Parameter]:
    shape, hidden = config.attention(kind), config.hidden_size
    prefix += "self_attn."
    yield Parameter(f"{prefix}q_proj.weight", (shape.heads * shape.head_dim, hidden), Storage.FP8)
    yield Parameter(f"{prefix}k_proj.weight", (shape.kv_heads * shape.head_dim, hidden), Storage.FP8)
    yield Parameter(f"{prefix}v_proj.weight", (shape.kv_heads * shape.v_head_dim, hidden), Storage.FP8)
    yield Parameter(f"{prefix}o_proj.weight", (hidden, shape.heads * shape.v_head_dim), Storage.BF16)
    if shape.has_sink:
        yield Parameter(f"{prefix}attention_sink_bias", (shape.heads,), Storage.BF16)


def _experts(config: MiMoConfig, prefix: str) -> Iterable[Parameter]:
    experts = config.n_routed_experts
    yield Parameter(f"{prefix}mlp.gate.weight", (experts, config.hidden_size), Storage.F32)
    yield Parameter(f"{prefix}mlp.gate.e_score_correction_bias", (experts,), Storage.F32)
    for expert in range(experts):
        place = f"{prefix}mlp.experts.{expert}."
        yield from _feed_forward(place, config.hidden_size, config.moe_intermediate_size, expert)


def _feed_forward(prefix: str, hidden: int, inner: int, expert: int | None = None) -> Iterable[Parameter]:
    yield Parameter(f"{prefix}gate_proj.weight", (inner, hidden), Storage.FP8, expert)
    yield Parameter(f"{prefix}up_proj.weight", (inner, hidden), Storage.FP8, expert)
    yield Parameter(f"{prefix}down_proj.weight", (hidden, inner), Storage.FP8, expert)


def _mtp_block(config: MiMoConfig, prefix: str) -> Iterable[Parameter]:
    hidden = config.hidden_size
    for norm in ("enorm", "hnorm", "input_layernorm", "pre_mlp_layernorm", "final_layernorm"):
        yield Parameter(f"{prefix}{norm}.weight", (hidden,), Storage.BF16)
    yield Parameter(f"{prefix}eh_proj.weight", (hidden, 2 * hidden), Storage.BF16)
    yield from _attention(config, LayerKind.WINDOW, prefix)
    yield from _feed_forward(f"{prefix}mlp.", hidden, config.intermediate_size)
