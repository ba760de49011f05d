"""Sizes that can be pretrained by name. PURE."""

from collections.abc import Mapping
from dataclasses import dataclass

from envfarm.model.config import MiMoConfig
from envfarm.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained.

    Attributes:
        rows: Packed rows of one step.
        row_tokens: Tokens of a row: the training length.
        mtp_rows: So many rows of a step also train the MTP blocks; other ones in each step.
        schedule: Learning rate and MTP weight.
        weight_decay: For matrices; norms and sinks have none.
        clip: Most norm of a step's gradient.
        bias_step: How far an expert's correction bias moves in a step (noaux_tc).
        balance_weight: Of the balance loss within a sequence.
        vocabulary_bytes: So much text the vocabulary is learned from.
        seed: Of weights and of the order of documents.
    """

    rows: int
    row_tokens: int
    mtp_rows: int
    schedule: Schedule
    weight_decay: float = 0.1
    clip: float = 1.0
    bias_step: float = 1e-3
    balance_weight: float = 1e-6
    vocabulary_bytes: int = 16_000_000
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A model's sizes, and how it is trained."""

    config: MiMoConfig
    recipe: Recipe


def _config(*, layers: int, hidden: int, vocabulary: int, experts: int, inner: int, expert_inner: int) -> MiMoConfig:
    """Return a small model with the real one's pattern: the first and the last layer global, and every sixth."""
    pattern = tuple(int(layer % 6 != 0 and layer != layers - 1) for layer in range(layers))
    heads = max(hidden // 32, 2)
    return MiMoConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        moe_intermediate_size=expert_inner,
        num_attention_heads=heads,
        num_key_value_heads=heads // 4 or 1,
        head_dim=32,
        v_head_dim=32,
        swa_num_attention_heads=heads,
        swa_num_key_value_heads=heads // 2,
        swa_head_dim=32,
        swa_v_head_dim=32,
        hybrid_layer_pattern=pattern,
        moe_layer_freq=(0,) + (1,) * (layers - 1),
        n_routed_experts=experts,
        num_experts_per_tok=2,
        partial_rotary_factor=0.5,
        rope_theta=640_000.0,
        max_position_embeddings=32_768,
        sliding_window=128,
        initializer_range=0.04,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )


PRESETS: Mapping[str, Preset] = {
    "tiny": Preset(
        config=_config(layers=3, hidden=64, vocabulary=512, experts=4, inner=128, expert_inner=64),
        recipe=Recipe(
            rows=4,
            row_tokens=128,
            mtp_rows=2,
            schedule=Schedule(peak=3e-3, warmup_steps=10, steps=60, decay_share=0.4),
            vocabulary_bytes=500_000,
        ),
    ),
    "bundled": Preset(
        config=_config(layers=6, hidden=192, vocabulary=4096, experts=8, inner=384, expert_inner=128),
        recipe=Recipe(
            rows=16,
            row_tokens=256,
            mtp_rows=4,
            bias_step=2e-3,  # a short run: at 1e-3 all work stays with two experts for its first steps
            schedule=Schedule(peak=3e-3, warmup_steps=100, steps=5000, decay_share=0.35),
        ),
    ),
}
"""`tiny` proves in a minute that training works; `bundled` is the model that is in the package."""
