"""The whole model: embedding, hybrid layers, final norm, head, MTP blocks; state dict by the checkpoint's names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from envfarm.model.attention_pass import Attends, AttentionPass
from envfarm.model.config import LayerKind, MiMoConfig
from envfarm.model.decoder_layer import DecoderLayer
from envfarm.model.experts import Experts
from envfarm.model.key_value_cache import KeyValueCache
from envfarm.model.layout import Layout
from envfarm.model.mtp import MTPStack
from envfarm.model.norm import RMSNorm
from envfarm.model.router import Router, Routing


@dataclass(frozen=True)
class ForwardResult:
    """What the main model computed.

    Attributes:
        hidden_B_T_D: Hidden states after the final norm, for the head and for MTP blocks.
        routings: One for each layer that has experts, in order; N = B * T, rows after one another.
    """

    hidden_B_T_D: Tensor
    routings: tuple[Routing, ...]


class Backbone(nn.Module):
    """Everything but the head; the checkpoint calls it `model`."""

    def __init__(
        self, config: MiMoConfig, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, dtype=dtype, device=device)
        self.layers = nn.ModuleList(
            DecoderLayer(config, layer, dtype=dtype, device=device) for layer in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.layernorm_epsilon, dtype=dtype, device=device)
        if config.num_nextn_predict_layers:
            self.mtp = MTPStack(config, dtype=dtype, device=device)

    def forward(
        self, tokens_B_T: Tensor, passes: Mapping[LayerKind, Attends], replayed: Sequence[Tensor] | None = None
    ) -> ForwardResult:
        """Return hidden states and routings; see `MiMo.forward`."""
        depth = dict.fromkeys(LayerKind, 0)
        routings: list[Routing] = []
        x: Tensor = self.embed_tokens(tokens_B_T)
        for number, layer in enumerate(self.layers):
            kind = self.config.kind_of(number)
            replay = replayed[len(routings)] if replayed is not None and self.config.has_experts(number) else None
            x, routing = layer(x, passes[kind], depth[kind], replay)
            depth[kind] += 1
            if routing is not None:
                routings.append(routing)
        return ForwardResult(self.norm(x), tuple(routings))


class MiMo(nn.Module):
    """The model with its head. Weights are not set when it is built: load them, or call `initialise`.

    Args of the constructor: `dtype` of all weights but the routers', which stay in float32.
    """

    def __init__(
        self, config: MiMoConfig, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config, dtype=dtype, device=device)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False, dtype=dtype, device=device)

    def forward(
        self,
        tokens_B_T: Tensor,
        layout: Layout | None = None,
        cache: KeyValueCache | None = None,
        replayed: Sequence[Tensor] | None = None,
    ) -> ForwardResult:
        """Return hidden states, from which `lm_head` makes logits, and where the tokens went.

        Args:
            tokens_B_T: Token ids, int64.
            layout: Where the tokens stand; None for rows of equal length that start at 0.
            cache: Earlier tokens of the rows; the new ones are stored. For inference, without gradients.
            replayed: Experts to take instead of choosing, [B, T, K] for each layer that has experts.
        """
        rows, tokens = tokens_B_T.shape
        layout = layout or Layout.plain(rows, tokens, tokens_B_T.device)
        passes = {
            kind: AttentionPass(self.config, kind, layout, None if cache is None else cache.main[kind])
            for kind in LayerKind
        }
        result: ForwardResult = self.model(tokens_B_T, passes, replayed)
        return result

    def predict_further(
        self, block: int, next_B_T: Tensor, hidden_B_T_D: Tensor, layout: Layout, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Return hidden states for the head, from which block k predicts token t + 2 + k in row t.

        Args:
            block: Which MTP block, k.
            next_B_T: Token t + 1 + k in row t.
            hidden_B_T_D: The main model's hidden state of token t.
            layout: Where the tokens t stand.
            cache: The block's earlier rows; the new ones are stored.
        """
        attention = AttentionPass(self.config, LayerKind.WINDOW, layout, None if cache is None else cache.mtp[block])
        further: Tensor = self.model.mtp.layers[block](self.model.embed_tokens(next_B_T), hidden_B_T_D, attention)
        return further

    def predict_all_further(
        self, tokens_B_T: Tensor, hidden_B_T_D: Tensor, layout: Layout | None = None
    ) -> tuple[Tensor, ...]:
        """Return each block's hidden states over whole rows, [B, T - 1 - k, D], for training.

        A row t whose token t + 1 + k belongs to another document means nothing: a loss has to leave it out.
        """
        rows, tokens = tokens_B_T.shape
        layout = layout or Layout.plain(rows, tokens, tokens_B_T.device)
        further = []
        for block in range(self.config.num_nextn_predict_layers):
            known = tokens - 1 - block
            hidden = hidden_B_T_D[:, :known]
            further.append(self.predict_further(block, tokens_B_T[:, 1 + block :], hidden, layout.first(known)))
        return tuple(further)


def initialise(model: MiMo, seed: int) -> None:
    """Set every weight: normal with the configuration's spread, norms to 1, sinks and correction biases to 0."""
    generator = torch.Generator().manual_seed(seed)
    spread = model.config.initializer_range
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, RMSNorm):
                module.weight.fill_(1.0)
            elif isinstance(module, nn.Linear | nn.Embedding | Experts | Router):
                for parameter in module.parameters(recurse=False):
                    drawn = torch.randn(parameter.shape, generator=generator) * spread
                    parameter.copy_(drawn)
        for name, tensor in model.state_dict().items():
            if name.endswith(("attention_sink_bias", "e_score_correction_bias")):
                tensor.zero_()
