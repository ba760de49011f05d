"""The same model in `transformers`, with the same weights: what the engine and the training are measured against."""

from typing import Any

import torch
from transformers import MiMoV2FlashConfig, MiMoV2FlashForCausalLM

from envfarm.model.config import MiMoConfig
from envfarm.model.mimo import MiMo


def make_twin(model: MiMo) -> Any:
    """Return the twin, in inference mode; it has no MTP blocks."""
    theirs = MiMoV2FlashForCausalLM(_twin_config(model.config)).eval()
    ours = model.state_dict()
    with torch.no_grad():
        for name, tensor in theirs.state_dict().items():
            place = name.removesuffix("gate_up_proj").removesuffix("down_proj")
            experts = range(model.config.n_routed_experts)
            if name.endswith("experts.gate_up_proj"):
                pairs = [(ours[f"{place}{e}.gate_proj.weight"], ours[f"{place}{e}.up_proj.weight"]) for e in experts]
                tensor.copy_(torch.stack([torch.cat(pair) for pair in pairs]))
            elif name.endswith("experts.down_proj"):
                tensor.copy_(torch.stack([ours[f"{place}{e}.down_proj.weight"] for e in experts]))
            else:
                tensor.copy_(ours[name.replace("self_attn.sinks", "self_attn.attention_sink_bias")])
    return theirs


def _twin_config(config: MiMoConfig) -> Any:
    rope = {"rope_type": "default", "partial_rotary_factor": config.partial_rotary_factor}
    theirs = MiMoV2FlashConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        moe_intermediate_size=config.moe_intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        v_head_dim=config.v_head_dim,
        n_routed_experts=config.n_routed_experts,
        num_experts_per_tok=config.num_experts_per_tok,
        n_group=1,
        topk_group=1,
        layer_types=["sliding_attention" if kind else "full_attention" for kind in config.hybrid_layer_pattern],
        mlp_layer_types=["sparse" if experts else "dense" for experts in config.moe_layer_freq],
        sliding_window=config.sliding_window
        + (not config.sliding_window_includes_self),  # theirs counts the token itself
        rms_norm_eps=config.layernorm_epsilon,
        attention_value_scale=config.attention_value_scale,
        rope_parameters={
            "full_attention": {**rope, "rope_theta": config.rope_theta},
            "sliding_attention": {**rope, "rope_theta": config.swa_rope_theta},
        },
        max_position_embeddings=config.max_position_embeddings,
        hidden_act="silu",
        pad_token_id=0,
        eos_token_id=None,
        bos_token_id=None,
    )
    theirs._attn_implementation = "eager"  # noqa: SLF001 -- the configuration's own switch
    return theirs
