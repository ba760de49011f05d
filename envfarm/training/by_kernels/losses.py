"""The losses of a batch by the kernels: layers and MTP blocks one after the other, as `model/` has them."""

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from envfarm.model.config import LayerKind
from envfarm.model.decoder_layer import DecoderLayer
from envfarm.model.feed_forward import FeedForward
from envfarm.model.layout import Layout
from envfarm.model.mimo import MiMo
from envfarm.model.mtp import MTPBlock
from envfarm.model.router import Routing
from envfarm.training.by_kernels.attention import Sight, attend
from envfarm.training.by_kernels.calls import Calls
from envfarm.training.by_kernels.experts import run_experts
from envfarm.training.by_kernels.head import mean_loss
from envfarm.training.by_kernels.rows import add_and_norm, gate, multiply
from envfarm.training.losses import Losses, balance_loss, targets_ahead
from envfarm.training.packing import Batch


class KernelLosses:
    """A model's losses by the kernels.

    Args of the constructor: `dtype` of products, bfloat16 or float32. The residual stream, routers, norms, softmaxes
    and sums are float32.
    """

    def __init__(self, calls: Calls, model: MiMo, dtype: torch.dtype) -> None:
        if any(p.device.type != "cpu" or p.dtype is not torch.float32 for p in model.parameters()):
            message = "the kernels train float32 weights on a CPU"
            raise ValueError(message)
        self._calls = calls
        self._model = model
        self._dtype = dtype

    def compute(self, batch: Batch, mtp_rows: slice) -> Losses:
        """Return the losses of a batch, with gradients; see `losses.compute_losses`."""
        layout, rows = Layout.packed(batch.documents_B_T), len(batch.tokens_B_T)
        part = Batch(batch.tokens_B_T[mtp_rows], batch.documents_B_T[mtp_rows])
        trains_blocks = bool(len(part.tokens_B_T)) and self._model.config.num_nextn_predict_layers > 0
        normal_N_D, wide_N_D, routings = self._hidden(batch.tokens_B_T, layout, wide=trains_blocks)
        main = self._loss(normal_N_D, targets_ahead(batch, 1))
        mtp: list[Tensor] = []
        if trains_blocks:
            part_layout = Layout.packed(part.documents_B_T)
            hidden_B_T_D = wide_N_D.view(rows, -1, wide_N_D.shape[1])[mtp_rows]
            for number, block in enumerate(cast("list[MTPBlock]", self._model.model.mtp.layers)):
                known = hidden_B_T_D.shape[1] - 1 - number
                further = self._further(
                    block, part.tokens_B_T[:, 1 + number :], hidden_B_T_D[:, :known], part_layout.first(known)
                )
                mtp.append(self._loss(further, targets_ahead(part, 2 + number)))
        return Losses(main, tuple(mtp), balance_loss(routings, rows, main), routings)

    def _hidden(self, tokens_B_T: Tensor, layout: Layout, *, wide: bool) -> tuple[Tensor, Tensor, tuple[Routing, ...]]:
        """Return hidden states after the final norm, the same in float32 where `wide`, and routings."""
        calls, dtype, backbone = self._calls, self._dtype, self._model.model
        sights = {kind: Sight.of_layout(backbone.config, kind, layout) for kind in LayerKind}
        x = functional.embedding(tokens_B_T.flatten(), backbone.embed_tokens.weight)
        added: Tensor | None = None
        routings = []
        for number, layer in enumerate(cast("list[DecoderLayer]", backbone.layers)):
            x, normal, _ = add_and_norm(calls, x, added, layer.input_layernorm, dtype)
            added = attend(calls, normal, layer.self_attn, sights[backbone.config.kind_of(number)])
            is_dense = isinstance(layer.mlp, FeedForward)
            x, normal, exact = add_and_norm(calls, x, added, layer.post_attention_layernorm, dtype, wide=not is_dense)
            if isinstance(layer.mlp, FeedForward):
                added = self._feed(normal, layer.mlp)
            else:
                routings.append(layer.mlp.gate(exact))
                added = run_experts(calls, normal, routings[-1], layer.mlp.experts)
        _, normal, exact = add_and_norm(calls, x, added, backbone.norm, dtype, wide=wide)
        return normal, exact, tuple(routings)

    def _further(self, block: MTPBlock, tokens_B_T: Tensor, hidden_B_T_D: Tensor, layout: Layout) -> Tensor:
        """Return a block's hidden states for the head, [B * T, D]; see `MiMo.predict_further`."""
        calls, dtype, backbone = self._calls, self._dtype, self._model.model
        embedding = functional.embedding(tokens_B_T.flatten(), backbone.embed_tokens.weight)
        hidden = hidden_B_T_D.flatten(0, 1).contiguous()
        pair = [
            add_and_norm(calls, x, None, norm, dtype)[1]
            for x, norm in ((embedding, block.enorm), (hidden, block.hnorm))
        ]
        x = multiply(torch.cat(pair, dim=1), block.eh_proj.weight).float()
        sight = Sight.of_layout(backbone.config, LayerKind.WINDOW, layout)
        normal = add_and_norm(calls, x, None, block.input_layernorm, dtype)[1]
        added = attend(calls, normal, block.self_attn, sight)
        x, normal, _ = add_and_norm(calls, x, added, block.pre_mlp_layernorm, dtype)
        return add_and_norm(calls, x, self._feed(normal, block.mlp), block.final_layernorm, dtype)[1]

    def _feed(self, normal_N_D: Tensor, feed: FeedForward) -> Tensor:
        inner = gate(self._calls, multiply(normal_N_D, feed.gate_proj.weight, feed.up_proj.weight))
        return multiply(inner, feed.down_proj.weight)

    def _loss(self, hidden_N_D: Tensor, targets_B_T: Tensor) -> Tensor:
        """Return the mean loss of rows whose last tokens have no target."""
        rows = len(targets_B_T)
        tokens = len(hidden_N_D) // rows
        targets_N = functional.pad(targets_B_T, (0, tokens - targets_B_T.shape[1]), value=-100).flatten()
        return mean_loss(self._calls, hidden_N_D, self._model.lm_head.weight, targets_N)
