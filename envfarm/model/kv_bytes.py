"""Bytes of keys and values by formula: what a cache of this model takes, and what an all-global one would. PURE.

MTP blocks keep windows of their own; they are not counted here.
"""

from dataclasses import dataclass

from envfarm.model.config import AttentionShape, LayerKind, MiMoConfig

BYTES_BF16 = 2


@dataclass(frozen=True, kw_only=True)
class KeyValueBytes:
    """Bytes of one request's keys and values at a length.

    Attributes:
        tokens: Length of the request.
        hybrid: Global layers keep every token, window layers a window and the newest token.
        all_global: Every layer shaped like the global ones, keeping every token.
    """

    tokens: int
    hybrid: int
    all_global: int

    @property
    def per_token(self) -> float:
        """Bytes for each token of the request, on average."""
        return self.hybrid / self.tokens

    @property
    def ratio(self) -> float:
        """How many times smaller the hybrid cache is."""
        return self.all_global / self.hybrid


def key_value_bytes(
    config: MiMoConfig, tokens: int, *, number_bytes: int = BYTES_BF16, draft_slots: int = 0
) -> KeyValueBytes:
    """Return what the main model's cache takes for one request of `tokens` tokens, at least 1.

    `draft_slots` is for tokens beyond the newest that may still be rejected.
    """
    whole, window = config.attention(LayerKind.GLOBAL), config.attention(LayerKind.WINDOW)
    global_layers, window_layers = config.count_layers(LayerKind.GLOBAL), config.count_layers(LayerKind.WINDOW)
    kept = min(tokens, (window.reach_tokens or 0) + 1 + draft_slots)
    numbers = global_layers * tokens * _numbers(whole) + window_layers * kept * _numbers(window)
    return KeyValueBytes(
        tokens=tokens,
        hybrid=numbers * number_bytes,
        all_global=config.num_hidden_layers * tokens * _numbers(whole) * number_bytes,
    )


def _numbers(shape: AttentionShape) -> int:
    """Return the numbers that one layer keeps for one token."""
    return shape.kv_heads * (shape.head_dim + shape.v_head_dim)
