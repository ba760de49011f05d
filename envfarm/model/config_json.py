"""Reads and writes config.json as text. PURE.

What would change the maths and is not supported is refused by name; keys that say nothing about the maths are ignored.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, get_type_hints

from envfarm.errors import CheckpointError
from envfarm.model.config import MiMoConfig

MODEL_TYPE = "mimo_v2_flash"
TILE = 128
"""Rows and columns of a block that shares one FP8 scale."""
_FIELDS: Mapping[str, Any] = get_type_hints(MiMoConfig)
_LATER = "mimo_v2"
_FIXED: Mapping[str, tuple[Any, ...]] = {
    # Key: the values that mean what we compute; a missing key means the first.
    "hidden_act": ("silu",),
    "scoring_func": ("sigmoid",),
    "topk_method": ("noaux_tc",),
    "n_group": (1, None),
    "topk_group": (1, None),
    "n_shared_experts": (None, 0),
    "attention_bias": (False,),
    "attention_dropout": (0, None),
    "tie_word_embeddings": (False,),
    "rope_scaling": (None,),
    "rope_parameters": (None,),
    "attention_projection_layout": (None, "split"),
}
_UNWRITTEN = ("rope_parameters", "attention_projection_layout")
"""Keys of later files only."""
_NULLS: Mapping[str, Any] = {"attention_value_scale": 1.0}
"""What null means where it does not mean what a missing key means."""
_LARGEST = 1 << 63
"""No number of a model comes near it; larger ones fit into no float and no tensor."""


def parse_config(text: str | bytes) -> MiMoConfig:
    """Return the configuration that a config.json holds.

    Raises:
        CheckpointError: It is no JSON object, of another architecture, or a field is missing, malformed or unsupported.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"config.json: not JSON: {error}"
        raise CheckpointError(message) from error
    if not isinstance(document, dict):
        message = "config.json: it has to be a JSON object"
        raise CheckpointError(message)
    _refuse_other_architectures(document)
    _refuse_unsupported(document)
    return MiMoConfig(**_values(document))


def render_config(config: MiMoConfig, *, fp8: bool) -> str:
    """Return config.json as the real checkpoint has it; `fp8` says how the weights beside it are stored."""
    document: dict[str, Any] = {
        "architectures": ["MiMoV2FlashForCausalLM"],
        "model_type": MODEL_TYPE,
        **{key: allowed[0] for key, allowed in _FIXED.items() if key not in _UNWRITTEN},
        **dataclasses.asdict(config),
        "num_hidden_layers": config.num_hidden_layers,
        "sliding_window_size": config.sliding_window,
        "torch_dtype": "bfloat16",
    }
    if fp8:
        document["quantization_config"] = {
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "weight_block_size": [TILE, TILE],
            "ignored_layers": [f"model.layers.{layer}.self_attn.o_proj" for layer in range(config.num_hidden_layers)],
        }
    return json.dumps(document, indent=2) + "\n"


def _refuse_other_architectures(document: Mapping[str, Any]) -> None:
    model_type = document.get("model_type")
    if model_type == MODEL_TYPE and document.get("attention_projection_layout") != "fused_qkv":
        return
    if model_type in (_LATER, MODEL_TYPE):
        message = (
            f"config.json: model_type {model_type!r} with a fused qkv_proj (MiMo-V2.5 and later) is not supported yet: "
            f"its rows are stored rank by rank; take a {MODEL_TYPE} checkpoint"
        )
    else:
        message = f"config.json: model_type {model_type!r} is no architecture we know; we read {MODEL_TYPE!r}"
    raise CheckpointError(message)


def _refuse_unsupported(document: Mapping[str, Any]) -> None:
    for key, allowed in _FIXED.items():
        if key in document and document[key] not in allowed:
            message = f"config.json: {key} is {document[key]!r}; only {allowed[0]!r} is supported"
            raise CheckpointError(message)
    quantization = document.get("quantization_config") or {}
    if not isinstance(quantization, dict):
        message = "config.json: quantization_config has to be a JSON object"
        raise CheckpointError(message)
    method, tile = quantization.get("quant_method", "fp8"), quantization.get("weight_block_size", [TILE, TILE])
    if method != "fp8" or tile != [TILE, TILE]:
        message = f"config.json: quantization {method!r} in blocks of {tile}; only fp8 in [{TILE}, {TILE}] is supported"
        raise CheckpointError(message)


def _values(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that the document gives; the window goes by the name that SGLang reads first."""
    given = dict(document)
    given |= {name: meant for name, meant in _NULLS.items() if name in given and given[name] is None}
    if given.get("sliding_window_size") is not None:
        given["sliding_window"] = given["sliding_window_size"]
    values: dict[str, Any] = {}
    for field in dataclasses.fields(MiMoConfig):
        has_default = field.default is not dataclasses.MISSING
        value = given.get(field.name)
        if value is None and has_default:
            continue
        if field.name not in given:
            message = f"config.json: {field.name} is missing"
            raise CheckpointError(message)
        values[field.name] = _checked(field.name, value)
    layers = given.get("num_hidden_layers", len(values["hybrid_layer_pattern"]))
    if layers != len(values["hybrid_layer_pattern"]):
        message = (
            f"config.json: num_hidden_layers is {layers}, "
            f"hybrid_layer_pattern has {len(values['hybrid_layer_pattern'])} entries"
        )
        raise CheckpointError(message)
    return values


def _checked(name: str, value: Any) -> Any:
    """Return the value as the field's type; booleans are no numbers but in the two patterns."""
    wanted = _FIELDS[name]
    if wanted is bool and isinstance(value, bool):
        return value
    if isinstance(value, int | float) and not abs(value) < _LARGEST:  # NaN as well
        message = f"config.json: {name} is no number that a model can have"
        raise CheckpointError(message)
    if wanted is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if wanted == tuple[int, ...] and isinstance(value, list) and all(isinstance(item, int) for item in value):
        return tuple(int(item) for item in value)
    kind = "a list of integers" if wanted == tuple[int, ...] else f"of type {wanted.__name__}"
    message = f"config.json: {name} has to be {kind}, and is {str(value)[:40]!r}"
    raise CheckpointError(message)
